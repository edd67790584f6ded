"""Kept rows agree with the dense softmax they come from."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.extraction.compiled_rows import keep_compiled
from fusion.extraction.device_rows import keep_on_device
from fusion.extraction.kept_rows import KeptRows

# The first runs on CPUs, the second on GPUs; they keep the same.
PATHS = pytest.mark.parametrize("path", [keep_compiled, keep_on_device])
Path = Callable[..., KeptRows]


def keep(
    path: Path, logits: torch.Tensor, *, top_k: int = 4, next_ids: list[int] | None = None, draws: int = 0
) -> KeptRows:
    generator = torch.Generator().manual_seed(0)
    return path(
        logits,
        next_ids_R=torch.tensor(next_ids or [0] * len(logits)),
        top_k=top_k,
        uniforms_RM=torch.rand((len(logits), draws), generator=generator, dtype=torch.float64),
    )


@PATHS
@given(seed=st.integers(0, 1000), scale=st.sampled_from([0.01, 1.0, 30.0]), top_k=st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_kept_rows_agree_with_the_dense_distribution(path: Path, seed: int, scale: float, top_k: int) -> None:
    logits = torch.randn((3, 20), generator=torch.Generator().manual_seed(seed)) * scale

    kept = keep(path, logits, top_k=top_k, next_ids=[5, -1, 19])

    dense = torch.log_softmax(logits.double(), dim=-1)
    torch.testing.assert_close(
        kept.top_logprobs.double(), dense.gather(-1, kept.top_ids), rtol=1e-5, atol=1e-5
    )
    assert (kept.top_logprobs[:, :-1] >= kept.top_logprobs[:, 1:]).all()
    outside = dense.scatter(-1, kept.top_ids, float("-inf")).logsumexp(-1)
    torch.testing.assert_close(kept.tail_logprobs.double(), outside, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        kept.next_logprobs[[0, 2]].double(), dense[[0, 2], [5, 19]], rtol=1e-5, atol=1e-5
    )
    assert kept.next_logprobs[1].isnan()


@PATHS
@pytest.mark.parametrize("num_ids", [127, 1000, 2560, 2600])
def test_the_top_of_a_large_vocabulary_is_that_of_a_full_sort(path: Path, num_ids: int) -> None:
    logits = torch.randn((8, num_ids), generator=torch.Generator().manual_seed(num_ids))
    # The greatest side by side at the end: in one block, or in the ids after the last whole one.
    logits[0, -4:] += 10.0

    kept = keep(path, logits)

    dense = torch.log_softmax(logits.double(), dim=-1)
    expected = dense.sort(dim=-1, descending=True)
    assert torch.equal(kept.top_ids, expected.indices[:, :4])
    torch.testing.assert_close(kept.top_logprobs.double(), expected.values[:, :4], rtol=1e-5, atol=1e-5)
    outside = expected.values[:, 4:].logsumexp(-1)
    torch.testing.assert_close(kept.tail_logprobs.double(), outside, rtol=1e-5, atol=1e-5)


@PATHS
def test_the_tail_does_not_cancel_where_the_top_holds_nearly_everything(path: Path) -> None:
    logits = torch.zeros((1, 100))
    logits[0, 0] = 40.0

    kept = keep(path, logits, top_k=1)

    assert kept.tail_logprobs.item() == pytest.approx(-40.0 + torch.log(torch.tensor(99.0)).item(), abs=1e-4)


@PATHS
def test_nothing_is_left_where_everything_is_kept(path: Path) -> None:
    kept = keep(path, torch.randn(2, 6), top_k=10, draws=3)

    assert kept.top_ids.shape == (2, 6)
    assert kept.tail_logprobs.tolist() == [-float("inf")] * 2
    assert (kept.sample_ids == 0).all()


@PATHS
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_rows_that_are_not_finite_are_set_aside_alone(path: Path, poison: float) -> None:
    logits = torch.randn(3, 30)
    logits[1, 7] = poison

    kept = keep(path, logits, draws=2)

    assert kept.is_finite.tolist() == [True, False, True]
    assert kept.top_logprobs[1].isnan().all()
    assert kept.tail_logprobs[1].isnan()
    assert kept.next_logprobs[1].isnan()
    assert not kept.top_logprobs[[0, 2]].isnan().any()


@PATHS
def test_an_impossible_token_is_not_an_error(path: Path) -> None:
    logits = torch.randn(1, 30)
    logits[0, 3] = -float("inf")

    kept = keep(path, logits, next_ids=[3])

    assert kept.is_finite.all()
    assert kept.next_logprobs.item() == -float("inf")


@PATHS
def test_tail_samples_follow_the_tail(path: Path) -> None:
    logits = torch.tensor([[5.0, 2.0, 1.0, 0.0, -30.0]])

    kept = keep(path, logits, top_k=1, draws=40_000)

    expected = torch.softmax(logits[0, 1:], dim=-1)
    counts = torch.bincount(kept.sample_ids[0], minlength=5)
    assert counts[0] == 0
    torch.testing.assert_close(counts[1:] / 40_000, expected, rtol=0, atol=0.01)


@PATHS
def test_the_lower_of_equal_ids_comes_first(path: Path) -> None:
    logits = torch.zeros(1, 1000)
    logits[0, [900, 300, 40]] = 1.0

    assert keep(path, logits, top_k=6).top_ids.tolist() == [[40, 300, 900, 0, 1, 2]]


@PATHS
def test_the_lower_of_equal_blocks_comes_first(path: Path) -> None:
    assert keep(path, torch.zeros(1, 5000), top_k=3).top_ids.tolist() == [[0, 1, 2]]


@PATHS
def test_a_row_without_any_mass_is_set_aside(path: Path) -> None:
    logits = torch.randn(2, 30)
    logits[0] = -float("inf")

    assert keep(path, logits).is_finite.tolist() == [False, True]


@PATHS
def test_fewer_ids_with_mass_than_are_kept(path: Path) -> None:
    logits = torch.full((1, 500), -float("inf"))
    logits[0, [7, 400]] = torch.tensor([0.0, 1.0])

    kept = keep(path, logits, top_k=4, draws=2)

    assert kept.top_ids[0, :2].tolist() == [400, 7]
    assert kept.top_logprobs[0, 2:].tolist() == [-float("inf")] * 2
    assert kept.tail_logprobs.item() == -float("inf")
    assert (kept.sample_ids == 0).all()


@given(seed=st.integers(0, 1000), num_ids=st.sampled_from([5, 127, 128, 129, 3000, 5001]))
@settings(max_examples=30, deadline=None)
def test_both_paths_keep_the_same(seed: int, num_ids: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    # A coarse grid, so that there are equals; the head is padded beyond the valid ids.
    padded = (torch.randn((4, num_ids + 3), generator=generator) * 4).round() / 4
    before = padded.clone()

    one = keep(keep_compiled, padded[:, :num_ids], draws=8)
    other = keep(keep_on_device, padded[:, :num_ids], draws=8)

    assert torch.equal(padded, before)
    assert torch.equal(one.top_ids, other.top_ids)
    torch.testing.assert_close(one.top_logprobs, other.top_logprobs, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(one.tail_logprobs, other.tail_logprobs, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(one.next_logprobs, other.next_logprobs, rtol=1e-6, atol=1e-6)
    assert (one.sample_ids == other.sample_ids).float().mean() > 0.9


def test_a_next_id_beyond_the_valid_ones_is_refused() -> None:
    with pytest.raises(IndexError, match="next id 30"):
        keep(keep_compiled, torch.randn(1, 30), next_ids=[30])
