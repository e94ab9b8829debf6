"""The live switch: exact at both ends, and nothing left behind."""

import pytest
import torch
from peft.tuners.lora import LoraLayer
from peft.utils import AuxiliaryTrainingWrapper

import tiny_models
from switchables import in_mode, logits
from taia.errors import AdapterError, SelectionError
from taia.runtime.switchable import SwitchableModel


@pytest.fixture
def tuned():
    return tiny_models.lora(tiny_models.llama())


def test_none_is_the_base_bit_for_bit(tuned):
    plain = logits(tiny_models.llama())
    assert torch.equal(in_mode(tuned, "base"), plain)
    assert not torch.equal(logits(tuned), plain), "the adapter does nothing"


def test_all_is_the_tuned_model_bit_for_bit(tuned):
    assert torch.equal(in_mode(tuned, "tuned"), logits(tuned))


@pytest.mark.parametrize(("mode", "gone"), [("taia", "mlp"), ("taif", "self_attn")])
def test_a_mode_is_the_adapter_without_the_rest(tuned, mode, gone):
    """The same as B = 0 in the part dropped, which is the filtered adapter."""
    control = tiny_models.lora(tiny_models.llama())
    for name, parameter in control.named_parameters():
        if "lora_B" in name and gone in name:
            parameter.data.zero_()
    found = in_mode(tuned, mode)
    assert torch.equal(found, logits(control))
    for other in ("base", "tuned"):
        assert not torch.equal(found, in_mode(tuned, other))


def test_a_fraction_scales(tuned):
    control = tiny_models.lora(tiny_models.llama())
    for name, parameter in control.named_parameters():
        if "lora_B" in name:
            parameter.data *= 0.5 if "mlp" in name else 1
    torch.testing.assert_close(in_mode(tuned, "attention + 0.5*mlp"), logits(control))


def test_layers_can_be_told_apart(tuned):
    first, last = in_mode(tuned, "attention[0]"), in_mode(tuned, "attention[1]")
    assert not torch.equal(first, last)


def test_everything_comes_back(tuned):
    before = logits(tuned)
    gradients = {name: p.requires_grad for name, p in tuned.named_parameters()}
    for text in ("base", "taia", "0.3*all"):
        in_mode(tuned, text)
        with (
            pytest.raises(RuntimeError, match="on purpose"),
            SwitchableModel.wrap(tuned).mode(text),
        ):
            raise RuntimeError("on purpose")
        assert torch.equal(logits(tuned), before)
    assert gradients == {name: p.requires_grad for name, p in tuned.named_parameters()}


def test_nested_modes_unwind(tuned):
    model = SwitchableModel.wrap(tuned)
    with model.mode("taia"):
        outer = logits(tuned)
        with model.mode("base"):
            assert not torch.equal(logits(tuned), outer)
        assert torch.equal(logits(tuned), outer)


def test_nothing_is_copied(tuned):
    places = [p.data_ptr() for p in tuned.parameters()]
    with SwitchableModel.wrap(tuned).mode("taia"):
        assert [p.data_ptr() for p in tuned.parameters()] == places


def test_conv1d_and_tied_heads():
    config = {"vocab_size": 260, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    base = tiny_models.model("gpt2", **config)
    plain = logits(base)
    tuned = tiny_models.lora(base)
    assert torch.equal(in_mode(tuned, "base"), plain)
    assert not torch.equal(in_mode(tuned, "taia"), in_mode(tuned, "taif"))


def test_part_of_a_fused_projection_is_refused():
    config = {"vocab_size": 260, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    tuned = tiny_models.lora(tiny_models.model("gpt2", **config))
    before = logits(tuned)
    with pytest.raises(SelectionError, match="c_attn"):
        in_mode(tuned, "q_proj")
    assert torch.equal(logits(tuned), before)


def test_what_a_switch_cannot_do_is_refused():
    merged = tiny_models.lora(tiny_models.llama())
    merged.merge_adapter()
    cases = {
        "merged": merged,
        "biases, and has written over": tiny_models.lora(tiny_models.llama(), bias="all"),
    }
    for words, model in cases.items():
        with pytest.raises(AdapterError, match=words):
            in_mode(model, "taia")
    with pytest.raises(AdapterError, match="DoRA"):
        in_mode(tiny_models.lora(tiny_models.llama(), use_dora=True), "0.5*all")


@pytest.mark.parametrize(
    ("options", "mode", "keeps"),
    [
        ({"modules_to_save": ["lm_head"]}, "all - head", False),
        ({"modules_to_save": ["lm_head"]}, "head", True),
        ({"modules_to_save": ["down_proj"]}, "taif", True),
        ({"modules_to_save": ["down_proj"]}, "taia", False),
        ({"trainable_token_indices": [3, 5]}, "embedding", True),
        ({"trainable_token_indices": [3, 5]}, "all - embedding", False),
    ],
)
def test_what_an_adapter_has_whole_is_kept_or_dropped_whole(options, mode, keeps):
    """PEFT's own switch of the module is the oracle; and half of it is refused, not rounded."""
    tuned = tiny_models.lora(tiny_models.llama(), **options)
    control = tiny_models.lora(tiny_models.llama(), **options)
    for model in (tuned, control):
        torch.manual_seed(5)
        for name, parameter in model.named_parameters():
            if "modules_to_save" in name or "trainable_tokens_delta" in name:
                parameter.data += torch.randn_like(parameter) * 0.1
    before = logits(tuned)
    for module in control.modules():
        if isinstance(module, AuxiliaryTrainingWrapper) and not keeps:
            module.enable_adapters(False)
        if isinstance(module, LoraLayer):
            in_mlp = module.in_features == 48 or module.out_features == 48
            whole = mode.startswith("all") or mode == ("taif" if in_mlp else "taia")
            module.enable_adapters(whole)
    assert torch.equal(in_mode(tuned, mode), logits(control))
    assert torch.equal(in_mode(tuned, "base"), logits(tiny_models.llama()))
    with pytest.raises(AdapterError, match="takes all of that or nothing"):
        in_mode(tuned, "0.5*all")
    assert torch.equal(logits(tuned), before)
    assert not SwitchableModel.wrap(tuned).can_mix


def test_a_part_of_a_module_saved_whole_is_refused():
    """A block saved whole holds tensors of several components: they go together, or nowhere."""
    tuned = tiny_models.lora(tiny_models.llama(), modules_to_save=["layers.1"])
    with pytest.raises(AdapterError, match="takes all of that or nothing"):
        in_mode(tuned, "taia")


def test_dora_switches_off_whole():
    tuned = tiny_models.lora(tiny_models.llama(), use_dora=True)
    assert torch.equal(in_mode(tuned, "base"), logits(tiny_models.llama()))
