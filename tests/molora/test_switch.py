"""The live switch on MoLoRA: what the adapter on disk would do, bit for bit."""

import pytest
import torch

import tiny_models
from switchables import in_mode, logits
from taia.errors import AdapterError
from taia.runtime.switchable import SwitchableModel
from tiny_molora import MEDCARE, molora


@pytest.fixture(params=[MEDCARE, {}], ids=["medcare", "paper"])
def tuned(request):
    return molora(**request.param)


def scaled(settings, factor):
    """The model with every B multiplied by ``factor(name)``."""
    control = molora(**settings)
    for name, parameter in control.named_parameters():
        if ".lora_B" in name or name.endswith("lora_experts.default.B"):
            parameter.data *= factor(name)
    return control


def test_none_is_the_base_bit_for_bit(tuned):
    plain = logits(tiny_models.llama())
    assert torch.equal(in_mode(tuned, "base"), plain)
    assert not torch.equal(logits(tuned), plain), "the adapter does nothing"


def test_all_is_the_tuned_model_bit_for_bit(tuned):
    assert torch.equal(in_mode(tuned, "tuned"), logits(tuned))


@pytest.mark.parametrize("settings", [MEDCARE, {}], ids=["medcare", "paper"])
@pytest.mark.parametrize(("mode", "kept"), [("taia", "self_attn"), ("taif", ".mlp.")])
def test_a_mode_is_the_adapter_without_the_rest(settings, mode, kept):
    control = scaled(settings, lambda name: float(kept in name))
    assert torch.equal(in_mode(molora(**settings), mode), logits(control))


def test_the_shared_expert_is_kept_without_the_routed_ones():
    control = scaled(MEDCARE, lambda name: float("lora_experts" not in name))
    found = in_mode(molora(**MEDCARE), "attention + shared_experts")
    assert torch.equal(found, logits(control))
    assert not torch.equal(found, in_mode(molora(**MEDCARE), "taia"))


def test_a_fraction_scales(tuned):
    settings = MEDCARE if tuned.peft_config["default"].shared_expert else {}
    control = scaled(settings, lambda name: 0.5 if ".mlp." in name else 1)
    torch.testing.assert_close(in_mode(tuned, "attention + 0.5*mlp"), logits(control))


def test_nothing_is_left_behind(tuned):
    before = logits(tuned)
    with pytest.raises(RuntimeError, match="on purpose"), SwitchableModel.wrap(tuned).mode("taia"):
        raise RuntimeError("on purpose")
    assert torch.equal(logits(tuned), before)


def test_experts_and_their_router_are_not_parted():
    for text in ("attention + experts", "all - experts", "all - 0.5*router"):
        with (
            pytest.raises(AdapterError, match="router"),
            SwitchableModel.wrap(molora(**MEDCARE)).mode(text),
        ):
            pass
