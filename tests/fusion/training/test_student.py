"""The fused head on real architectures, and the fallback where the logits are more than a linear layer."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from fusion.llms.logit_shape import LogitShape
from fusion.training.batches import MicroBatch, collate
from fusion.training.loader import LessonReader
from fusion.training.losses import Objective
from fusion.training.student import Student, make_student
from tests.fusion.training.lessons import make_lessons, write_align_folder
from tests.support.tiny_families import FAMILIES

OBJECTIVE = Objective(clm_weight=0.6, divergence="ce", tail="bucket")


@pytest.fixture
def batch(tmp_path) -> MicroBatch:
    lessons = make_lessons([12, 7], vocabulary=200)
    reader = LessonReader(write_align_folder(tmp_path / "align", [lessons]))
    return collate([reader.read(0), reader.read(1)])


def gradients(student: Student, batch: MicroBatch) -> tuple[float, dict[str, torch.Tensor]]:
    student.model.zero_grad()
    sums = student.losses(batch, objective=OBJECTIVE)
    sums.total.backward()
    return sums.total.item(), {name: p.grad.clone() for name, p in student.model.named_parameters()}


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_fused_head_equals_plain_path(family, batch):
    torch.manual_seed(0)
    student = make_student(AutoModelForCausalLM.from_config(FAMILIES[family]()))
    plain = Student(model=student.model, head=None, plain_reason="asked for")

    fused_total, fused_grads = gradients(student, batch)
    plain_total, plain_grads = gradients(plain, batch)

    assert student.plain_reason is None
    assert student.model.training
    assert fused_total == pytest.approx(plain_total, rel=1e-5)
    torch.testing.assert_close(fused_grads, plain_grads, rtol=1e-3, atol=2e-5)


def test_a_cap_bends_the_logits_of_the_test(batch):
    """The families with a cap are only a test of it where it changes the loss."""
    torch.manual_seed(0)
    student = make_student(AutoModelForCausalLM.from_config(FAMILIES["gemma2"]()))
    uncapped = replace(student, head=replace(student.head, shape=LogitShape()))

    capped_total, _ = gradients(student, batch)
    uncapped_total, _ = gradients(uncapped, batch)

    assert capped_total != pytest.approx(uncapped_total, rel=1e-5)


def test_unfamiliar_logits_take_the_plain_path(batch):
    model = AutoModelForCausalLM.from_config(FAMILIES["llama"]())

    def shifted(_module, _inputs, output):
        output["logits"] = output.logits + torch.linspace(0, 1, output.logits.shape[-1])
        return output

    model.register_forward_hook(shifted)
    student = make_student(model)
    total, _ = gradients(student, batch)

    assert student.head is None
    assert "after the output layer" in student.plain_reason
    assert student.model.training
    assert np.isfinite(total)


def test_a_micro_batch_asks_the_device_for_nothing(batch, monkeypatch):
    """On the `meta` device there is no value to wait for, so whatever would halt a GPU's queue fails."""
    # transformers looks for packed sequences in the position ids, once per forward pass.
    monkeypatch.setattr("transformers.masking_utils.find_packed_sequence_indices", lambda position_ids: None)
    student = make_student(AutoModelForCausalLM.from_config(FAMILIES["gemma3"]()))
    student.model.to("meta")

    losses = student.losses(batch.to(torch.device("meta")), objective=OBJECTIVE)
    losses.total.backward()

    assert losses.total.is_meta
    assert all(parameter.grad.is_meta for parameter in student.model.parameters())


def test_padding_changes_nothing(tmp_path):
    torch.manual_seed(0)
    student = make_student(AutoModelForCausalLM.from_config(FAMILIES["llama"]()))
    lessons = make_lessons([12, 5, 9], vocabulary=200)
    reader = LessonReader(write_align_folder(tmp_path / "align", [lessons]))
    sequences = [reader.read(number) for number in range(3)]

    together = student.losses(collate(sequences), objective=OBJECTIVE)
    alone = [student.losses(collate([sequence]), objective=OBJECTIVE).total.item() for sequence in sequences]

    assert together.total.item() == pytest.approx(sum(alone), rel=1e-6)
