"""The probe finds factors and caps whatever the weights, and refuses what it cannot rebuild."""

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from fusion.llms.head_probe import HeadUnfamiliar, probe_head
from tests.support.tiny_families import FACTORS_AND_CAPS, FAMILIES


def make_model(family: str = "llama"):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(FAMILIES[family]())


def change_logits(model, change) -> None:
    """Let the model do something to its logits that no head of ours does."""

    def hook(_module, _inputs, output):
        output["logits"] = change(output.logits)
        return output

    model.register_forward_hook(hook)


@pytest.mark.parametrize("family", FACTORS_AND_CAPS)
def test_finds_factor_scale_and_cap(family):
    factor, scale, cap = FACTORS_AND_CAPS[family]

    head = probe_head(make_model(family))

    assert head.hidden_factor == pytest.approx(factor, rel=1e-6)
    assert head.shape.scale == pytest.approx(scale, rel=1e-6)
    assert head.shape.cap == (None if cap is None else pytest.approx(cap, rel=1e-6))


def test_a_cap_that_the_weights_never_reach_is_found():
    model = make_model("gemma2")
    model.config.final_logit_softcapping = 30.0

    assert probe_head(model).shape.cap == 30.0


def test_scale_and_cap_together():
    model = make_model()
    change_logits(model, lambda logits: 4.0 * torch.tanh(0.3 * logits / 4.0))

    shape = probe_head(model).shape

    assert (shape.scale, shape.cap) == (pytest.approx(0.3, rel=1e-6), 4.0)


@pytest.mark.parametrize(
    "change",
    [
        lambda logits: logits + 1.0,
        lambda logits: -logits,
        lambda logits: 0 * logits,
        lambda logits: logits.clamp(max=5.0),
        lambda logits: logits.masked_fill(torch.arange(logits.shape[-1]) == 7, -1e9),
        lambda logits: logits.log_softmax(-1),
        lambda logits: logits.flip(1),
    ],
    ids=["shift", "sign", "nothing", "clamp", "mask", "normalise", "order"],
)
def test_other_changes_of_the_logits_are_refused(change):
    model = make_model()
    change_logits(model, change)

    with pytest.raises(HeadUnfamiliar, match="after the output layer"):
        probe_head(model)


def test_dropout_before_the_head_is_seen():
    model = make_model()
    model.lm_head.register_forward_pre_hook(
        lambda module, inputs: nn.functional.dropout(inputs[0], 0.5, training=module.training)
    )

    with pytest.raises(HeadUnfamiliar, match="before the output layer"):
        probe_head(model)


def test_a_layer_that_does_more_than_a_product_is_refused():
    class Doubled(nn.Linear):
        def forward(self, hidden):
            return 2 * super().forward(hidden)

    model = make_model()
    model.lm_head = Doubled(32, 200, bias=False)

    with pytest.raises(HeadUnfamiliar, match="more than a matrix product"):
        probe_head(model)


def test_a_head_called_twice_is_refused():
    model = make_model()
    model.register_forward_hook(lambda module, _inputs, output: (module.lm_head(torch.zeros(32)), output)[1])

    with pytest.raises(HeadUnfamiliar, match="exactly once"):
        probe_head(model)


def test_a_backbone_that_is_called_otherwise_is_refused():
    model = make_model()
    # Alone, the backbone gives other hidden states than within the model.
    model.register_forward_pre_hook(lambda module, _inputs: setattr(module.model, "inside", True))
    model.register_forward_hook(lambda module, _inputs, _output: setattr(module.model, "inside", False))
    model.model.norm.register_forward_hook(
        lambda _module, _inputs, output: output if getattr(model.model, "inside", False) else output + 1
    )

    with pytest.raises(HeadUnfamiliar, match="not those of the backbone"):
        probe_head(model)


@pytest.mark.parametrize("training", [True, False])
def test_leaves_the_model_as_it_was(training):
    model = make_model("gemma2").train(training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    probe_head(model)

    assert model.training is training
    assert not model.lm_head._forward_hooks
    assert not model.base_model._forward_hooks
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", ["model.norm.weight", "lm_head.weight"])
def test_weights_that_are_no_numbers_are_not_the_probes_business(name):
    model = make_model()
    with torch.no_grad():
        model.get_parameter(name)[0] = torch.nan

    assert probe_head(model).shape.cap is None
