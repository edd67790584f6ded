"""However a step is split over micro-batches and ranks, its gradient is the same, to the rounding of fp64."""

from pathlib import Path

import pytest
import torch

from fusion.llms.loading import load_model
from fusion.progress import NullProgress
from fusion.training.loader import LessonReader
from fusion.training.loop import Trainer
from fusion.training.losses import Objective
from fusion.training.student import make_student
from tests.fusion.training.runs import TrainingCase

OBJECTIVE = Objective(clm_weight=0.6, divergence="ce", tail="bucket")
Gradients = dict[str, torch.Tensor]


class SharedOut:
    """One rank of several, as far as the loop asks."""

    device = torch.device("cpu")

    def __init__(self, rank: int, num_ranks: int) -> None:
        self.process_index = rank
        self.num_processes = num_ranks


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> TrainingCase:
    return TrainingCase(tmp_path_factory.mktemp("case"), sequences_per_step=6)


def gradients(
    case: TrainingCase, *, max_tokens: int, rank: int = 0, num_ranks: int = 1
) -> tuple[Gradients, torch.Tensor]:
    """Gradient and loss sums of one rank's share of the first step."""
    model = load_model(case.target, dtype="float32", device=torch.device("cpu")).double()
    trainer = Trainer(
        make_student(model),
        LessonReader(case.align),
        training=case.spec.training,
        objective=OBJECTIVE,
        seed=0,
        accelerator=SharedOut(rank, num_ranks),  # type: ignore[arg-type]
        autocast_dtype=None,
        checkpoint_folder=Path("unused"),
        target=case.target,
        digest="",
        progress=NullProgress(),
        max_tokens_per_micro_batch=max_tokens,
        num_speakers=2,
    )
    numbers = trainer.schedule.sequences_of(0)
    num_labels = int(trainer.reader.num_tokens_of[numbers].sum()) - len(numbers)
    with trainer.open_feed() as feed:
        sums = trainer._local_gradients(feed, num_labels)
    return {name: each.grad for name, each in model.named_parameters() if each.grad is not None}, sums


def assert_same(found: Gradients, expected: Gradients) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("max_tokens", [12, 24, 36])
def test_accumulating_changes_nothing(case: TrainingCase, max_tokens: int) -> None:
    at_once, sums = gradients(case, max_tokens=10_000)

    accumulated, accumulated_sums = gradients(case, max_tokens=max_tokens)

    assert_same(accumulated, at_once)
    torch.testing.assert_close(accumulated_sums, sums, rtol=1e-12, atol=0)


@pytest.mark.parametrize("num_ranks", [2, 3, 8])
def test_the_gradients_of_all_ranks_add_up_to_that_of_one(case: TrainingCase, num_ranks: int) -> None:
    alone, sums = gradients(case, max_tokens=24)

    shares = [gradients(case, max_tokens=24, rank=rank, num_ranks=num_ranks) for rank in range(num_ranks)]

    total = {
        name: sum((share[name] for share, _ in shares if name in share), torch.zeros_like(gradient))
        for name, gradient in alone.items()
    }
    assert_same(total, alone)
    torch.testing.assert_close(sum(part for _, part in shares), sums, rtol=1e-12, atol=0)
