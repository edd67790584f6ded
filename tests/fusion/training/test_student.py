"""The fused head on real architectures, and the fallback where the logits are more than a linear layer."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config

from fusion.training.batches import MicroBatch, collate
from fusion.training.loader import LessonReader
from fusion.training.losses import Objective
from fusion.training.student import Student, make_student
from tests.fusion.training.lessons import make_lessons, write_align_folder
from tests.support.tiny_models import CONFIG_OF_FAMILY

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


@pytest.mark.parametrize("family", sorted(CONFIG_OF_FAMILY))
def test_fused_head_equals_plain_path(family, batch):
    torch.manual_seed(0)
    student = make_student(AutoModelForCausalLM.from_config(CONFIG_OF_FAMILY[family](200)))
    plain = Student(model=student.model, head=None, plain_reason="asked for")

    fused_total, fused_grads = gradients(student, batch)
    plain_total, plain_grads = gradients(plain, batch)

    assert student.plain_reason is None
    assert student.model.training
    assert fused_total == pytest.approx(plain_total, rel=1e-5)
    torch.testing.assert_close(fused_grads, plain_grads, rtol=1e-3, atol=2e-5)


def test_capped_logits_take_the_plain_path(batch):
    config = Gemma2Config(
        vocab_size=200,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        attn_implementation="eager",
    )

    student = make_student(AutoModelForCausalLM.from_config(config))
    total, _ = gradients(student, batch)

    assert student.head is None
    assert "after the output layer" in student.plain_reason
    assert np.isfinite(total)


def test_padding_changes_nothing(tmp_path):
    torch.manual_seed(0)
    student = make_student(AutoModelForCausalLM.from_config(CONFIG_OF_FAMILY["llama"](200)))
    lessons = make_lessons([12, 5, 9], vocabulary=200)
    reader = LessonReader(write_align_folder(tmp_path / "align", [lessons]))
    sequences = [reader.read(number) for number in range(3)]

    together = student.losses(collate(sequences), objective=OBJECTIVE)
    alone = [student.losses(collate([sequence]), objective=OBJECTIVE).total.item() for sequence in sequences]

    assert together.total.item() == pytest.approx(sum(alone), rel=1e-6)
