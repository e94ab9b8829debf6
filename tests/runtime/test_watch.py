"""PEFT's own methods know nothing of modes: none of them mistakes a part for the whole."""

import pytest
import torch

import tiny_models
from switchables import adapted, logits
from taia import SwitchableModel
from taia.errors import AdapterError
from tiny_molora import molora


@pytest.fixture
def model():
    return SwitchableModel.wrap(adapted("llama"))


def test_peft_alone_merges_what_is_switched_off():
    """The trap, as a control: were it gone, the guard would not be needed."""
    tuned = adapted("llama")
    for name, module in tuned.named_modules():
        if ".mlp." in name and hasattr(module, "_disable_adapters"):
            module._disable_adapters = True
    taia = logits(tuned)
    assert not torch.allclose(logits(tuned.merge_and_unload()), taia, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("merge_and_unload", ()),
        ("merge_adapter", ()),
        ("save_pretrained", ("nowhere",)),
        ("set_adapter", ("default",)),
        ("delete_adapter", ("default",)),
        ("load_adapter", ("nowhere", "other")),
        ("add_adapter", ("other", None)),
        ("disable_adapter_layers", ()),
        ("enable_adapter_layers", ()),
        ("add_weighted_adapter", (["default"], [1.0], "other")),
    ],
)
@pytest.mark.parametrize("mode", ["taia", "base", "0.5*all", "rows"])
def test_methods_that_take_the_adapter_for_whole_are_refused(model, name, arguments, mode):
    block = model.rows(["base", "taia"]) if mode == "rows" else model.mode(mode)
    with block:
        before = logits(model)
        with pytest.raises(AdapterError, match=rf"{name}\(\)"):
            getattr(model.model, name)(*arguments)
        with pytest.raises(AdapterError):
            model.model.base_model.merge_and_unload()
        assert torch.equal(logits(model), before)


def test_disable_adapter_leads_to_the_base_and_back(model):
    base = logits(adapted("llama").unload())
    grads = [p.requires_grad for p in model.model.parameters()]
    for mode in ("taia", "tuned", "0.5*all"):
        with model.mode(mode):
            before = logits(model)
            with model.model.disable_adapter():
                assert model.current == "base"
                assert torch.equal(logits(model), base)
            assert torch.equal(logits(model), before)
            assert not torch.equal(before, base)
    assert grads == [p.requires_grad for p in model.model.parameters()]


def test_in_tuned_everything_is_as_ever(model, tmp_path):
    model.set_mode("taia")
    model.set_mode("tuned")
    model.model.save_pretrained(tmp_path)
    assert (tmp_path / "adapter_model.safetensors").is_file()
    merged = logits(model.model.merge_and_unload())
    assert torch.equal(merged, logits(adapted("llama").merge_and_unload()))


def test_unload_leaves_the_base(model):
    model.set_mode("taia")
    assert torch.equal(logits(model.model.unload()), logits(adapted("llama").unload()))


def test_another_active_adapter_needs_a_new_wrapper(model):
    tuned = model.model
    tuned.add_adapter("other", tuned.peft_config["default"])
    tuned.set_adapter("other")
    with pytest.raises(AdapterError, match="was default"):
        model.set_mode("base")
    again = SwitchableModel.wrap(tuned)
    with again.mode("base"):
        assert torch.equal(logits(again), logits(adapted("llama").unload()))


def test_molora_never_merges():
    model = SwitchableModel.wrap(molora(tiny_models.llama()))
    for mode in ("tuned", "taia"):
        with model.mode(mode), pytest.raises(AdapterError):
            model.model.merge_and_unload()
