"""From folders to a switchable model."""

import gc
import json
import warnings

import pytest
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file

import tiny_adapters
import tiny_models
from switchables import logits
from taia import SwitchableModel
from taia.checkpoint.compose import compose
from taia.checkpoint.kinship import DoubtfulPairWarning
from taia.errors import AdapterError, AnatomyError, CheckpointError, InputError, SelectionError
from taia.runtime.check import Limits
from tiny_molora import MEDCARE, molora


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3-moe", "mixtral"])
def test_adapters_and_checkpoints_are_what_transformers_and_peft_load(tmp_path, family):
    base, adapter = tiny_adapters.save_pair(tmp_path, family)
    reference = tiny_adapters.load_adapted(base, adapter)
    plain = tiny_adapters.logits(tiny_adapters.load_base(base))
    model = SwitchableModel.load(base, adapter, device="cpu")
    assert not model.model.training
    tuned = tiny_adapters.logits(reference)
    assert torch.equal(logits(model), tuned)
    reference.merge_and_unload().save_pretrained(tmp_path / "merged")
    merged = SwitchableModel.load(base, tmp_path / "merged", device="cpu")
    torch.testing.assert_close(logits(merged), tuned, rtol=1e-4, atol=1e-4)
    for one in (model, merged):
        with one.mode("base"):
            assert torch.equal(logits(one), plain)
    for mode in ("taia", "taif", "attention + 0.5*mlp"):
        with model.mode(mode), merged.mode(mode):
            torch.testing.assert_close(logits(model), logits(merged), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("recorded", ["org/other-model", "/gone/other", None])
def test_a_base_that_the_adapter_does_not_name_is_warned_of_once(tmp_path, recorded):
    base, adapter = tiny_adapters.save_pair(tmp_path, "llama")
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = recorded or str(base)
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        SwitchableModel.load(base, adapter, device="cpu")
        SwitchableModel.load(base, None, device="cpu")
    found = [w for w in caught if issubclass(w.category, DoubtfulPairWarning)]
    assert len(found) == (recorded is not None)
    assert all(str(recorded) in str(w.message) and w.filename == __file__ for w in found)


@pytest.mark.parametrize("device", ["cuda:99", "foo", "meta"])
def test_a_device_that_is_not_here_is_refused_before_anything_is_read(device):
    with pytest.raises(InputError, match=f"no device '{device}'"):
        SwitchableModel.load("/nowhere/base", "/nowhere/tuned", device=device)


@pytest.mark.parametrize("keep", ["taia", "taif", "attention + 0.3*mlp", "all - mlp[1:]"])
@pytest.mark.parametrize("family", ["tied-llama", "gpt2"])
def test_a_mode_is_what_compose_writes_bit_for_bit(tmp_path, family, keep):
    """Row slices of fused projections included, which adapters refuse."""
    tiny_adapters.model(family).save_pretrained(tmp_path / "base")
    tuned = tiny_adapters.model(family)
    for parameter in tuned.parameters():
        parameter.data += torch.randn_like(parameter) * 0.1
    tuned.save_pretrained(tmp_path / "tuned")
    model = SwitchableModel.load(tmp_path / "base", tmp_path / "tuned", device="cpu")
    for number, selection in enumerate((keep, "q_proj + 0.5*v_proj")):
        output = tmp_path / f"out{number}"
        compose(tmp_path / "base", tmp_path / "tuned", output, keep=selection)
        composed = tiny_adapters.load_base(output)
        with model.mode(selection):
            live = dict(model.model.named_parameters())
            for name, parameter in composed.named_parameters():
                assert torch.equal(live[name], parameter), name
            assert torch.equal(logits(model), logits(composed))


def test_molora_loads_without_importing_it_first(tmp_path):
    tiny_models.save_llama(tmp_path / "base")
    made = molora(**MEDCARE)
    made.save_pretrained(tmp_path / "adapter")
    model = SwitchableModel.load(tmp_path / "base", tmp_path / "adapter", device="cpu")
    assert torch.equal(logits(model), logits(made))


def test_memory_is_the_base_and_what_differs(tmp_path):
    sizes = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4}
    base = tiny_models.llama(**sizes)
    base.save_pretrained(tmp_path / "base")
    for name, parameter in base.named_parameters():
        if "layers.1" in name:
            parameter.data += 1
    base.save_pretrained(tmp_path / "tuned")
    whole = sum(p.nbytes for p in base.parameters())
    changed = sum(p.nbytes for n, p in base.named_parameters() if "layers.1" in n)
    del base, parameter
    before = _held()
    model = SwitchableModel.load(tmp_path / "base", tmp_path / "tuned", device="cpu")
    assert _held() - before <= 1.05 * (whole + changed)
    assert model.modes


def _held():
    gc.collect()
    tensors = (x for x in gc.get_objects() if type(x) in (torch.Tensor, torch.nn.Parameter))
    return sum({s.data_ptr(): s.nbytes() for t in tensors for s in [t.untyped_storage()]}.values())


def test_a_base_alone_and_its_dtype(tmp_path):
    base = tiny_models.save_llama(tmp_path / "base")
    assert SwitchableModel.load(base, None, device="cpu").dtype == torch.float32
    model = SwitchableModel.load(base, None, {"plain": "none"}, device="cpu", dtype=torch.bfloat16)
    assert (model.dtype, set(model.modes)) == (torch.bfloat16, {"base", "plain"})


def test_what_does_not_fit_is_said(tmp_path):
    base, adapter = tiny_adapters.save_pair(tmp_path, "llama")
    shallow = tiny_models.save_llama(tmp_path / "shallow")
    with pytest.raises(AdapterError, match=r"14 tensors of .* have no place"):
        SwitchableModel.load(shallow, adapter, device="cpu")
    wide = {"hidden_size": 64, "num_hidden_layers": 3}
    with pytest.raises(AdapterError, match=r"does not fit the base model: size mismatch for .*"):
        SwitchableModel.load(
            tiny_models.save_llama(tmp_path / "wide", **wide), adapter, device="cpu"
        )
    with pytest.raises(CheckpointError, match="does not exist"):
        SwitchableModel.load(base, tmp_path / "nowhere", device="cpu")
    with pytest.raises(SelectionError, match="nonsense"):
        SwitchableModel.load(base, adapter, {"x": "nonsense"}, device="cpu")
    for tuned in (None, adapter):
        with pytest.raises(AdapterError, match="is an adapter, and was given as the base"):
            SwitchableModel.load(adapter, tuned, device="cpu")


def test_a_tensor_that_peft_would_leave_out_is_refused(tmp_path):
    base, adapter = tiny_adapters.save_pair(tmp_path, "llama")
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["target_modules"] = ["q_proj", "v_proj"]
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(AdapterError, match="PEFT would leave it out"):
        SwitchableModel.load(base, adapter, device="cpu")


def test_a_quantised_base_under_an_adapter(tmp_path):
    pytest.importorskip("bitsandbytes", reason="4-bit weights need bitsandbytes")
    from transformers import BitsAndBytesConfig

    sizes = {"hidden_size": 64, "intermediate_size": 128}
    base = tiny_models.save_llama(tmp_path / "base", **sizes)
    tiny_models.lora(tiny_models.llama(**sizes)).save_pretrained(tmp_path / "adapter")
    options = {"quantization_config": BitsAndBytesConfig(load_in_4bit=True), "device": "cpu"}
    model = SwitchableModel.load(base, tmp_path / "adapter", **options)
    plain = SwitchableModel.load(base, None, **options)
    assert model.can_mix
    alone = {}
    for mode in ("base", "taia"):
        with model.mode(mode):
            alone[mode] = logits(model)
    assert torch.equal(alone["base"], logits(plain))
    mixed = logits(model, modes=["taia", "base"])
    assert torch.equal(mixed[0], alone["taia"][0])
    assert torch.equal(mixed[1], alone["base"][1])
    with pytest.raises(CheckpointError, match="quantised"):
        SwitchableModel.wrap(plain.model, plain.model)


def test_a_device_map(tmp_path):
    base, adapter = tiny_adapters.save_pair(tmp_path, "llama")
    model = SwitchableModel.load(base, adapter, device_map={"": "cpu"}, dtype=torch.float32)
    assert torch.equal(
        logits(model), tiny_adapters.logits(tiny_adapters.load_adapted(base, adapter))
    )
    with model.mode("base"):
        assert torch.equal(logits(model), tiny_adapters.logits(tiny_adapters.load_base(base)))


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_a_part_of_trained_biases(tmp_path, bias):
    """A fraction is what the bias alone would be: halfway from the base's to the trained one."""
    base, adapter = tiny_adapters.save_pair(tmp_path, "gpt2", bias=bias)
    model = SwitchableModel.load(base, adapter, device="cpu")
    plain = dict(tiny_adapters.load_base(base).named_parameters())
    tuned = {
        name.replace(".base_layer", ""): parameter.clone()
        for name, parameter in model.model.get_base_model().named_parameters()
        if name.endswith("bias")
    }
    moved = [name for name in tuned if not torch.equal(tuned[name], plain[name])]
    assert any(".mlp." in name for name in moved)
    with model.mode("attention + 0.5*mlp"):
        for name, live in model.model.get_base_model().named_parameters():
            name = name.replace(".base_layer", "")
            if name in moved and ".mlp." in name:
                torch.testing.assert_close(live, (plain[name] + tuned[name]) / 2)
            elif name in moved and ".attn." in name:
                assert torch.equal(live, tuned[name])
    assert not model.can_mix
    with pytest.raises(AdapterError, match="cannot be in different modes"):
        model(tiny_adapters.IDS, modes=["base", "tuned"])


def test_a_saved_embedding_is_not_taken_for_the_bases(tmp_path):
    """PEFT saves the embedding that it adapts, and loading writes that over the base's."""
    targets = ["q_proj", "down_proj", "embed_tokens", "lm_head"]
    base, adapter = tiny_adapters.save_pair(tmp_path, "llama", target_modules=targets)
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    (saved,) = (name for name in tensors if name.endswith("embed_tokens.base_layer.weight"))
    tensors[saved] = tensors[saved] + 0.5
    save_file(tensors, file, {"format": "pt"})
    model = SwitchableModel.load(base, adapter, device="cpu")
    assert torch.equal(logits(model), logits(tiny_adapters.load_adapted(base, adapter)))
    for _ in range(2):  # and whoever wraps the model anew keeps it
        model = SwitchableModel.wrap(model.model)
        with model.mode("base"):
            assert torch.equal(logits(model), logits(tiny_adapters.load_base(base)))


@pytest.mark.parametrize(
    "options", [{}, {"target_modules": ["q_proj", "o_proj"]}, {"use_dora": True}]
)
def test_fan_in_fan_out_says_nothing_of_linear_layers(tmp_path, options):
    """peft#155: the architecture decides how a weight lies, and PEFT ignores the flag."""
    base, adapter = tiny_adapters.save_pair(tmp_path, "llama", **options)
    before = logits(SwitchableModel.load(base, adapter, device="cpu"))
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "fan_in_fan_out": True}))
    model = SwitchableModel.load(base, adapter, device="cpu")
    assert torch.equal(logits(model), before)
    assert not torch.equal(before, logits(tiny_adapters.load_base(base)))


@pytest.mark.parametrize("bits", [4, 8])
def test_a_base_that_was_saved_quantised(tmp_path, bits):
    pytest.importorskip("bitsandbytes", reason="quantised weights need bitsandbytes")
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    sizes = {"hidden_size": 64, "intermediate_size": 128}
    whole = tiny_models.save_llama(tmp_path / "whole", **sizes)
    tiny_models.lora(tiny_models.llama(**sizes)).save_pretrained(tmp_path / "adapter")
    how = BitsAndBytesConfig(load_in_4bit=bits == 4, load_in_8bit=bits == 8)
    packed = AutoModelForCausalLM.from_pretrained(whole, quantization_config=how, device_map="cpu")
    packed.save_pretrained(tmp_path / "packed")
    model = SwitchableModel.load(tmp_path / "packed", tmp_path / "adapter", device="cpu")

    def again():
        return AutoModelForCausalLM.from_pretrained(
            tmp_path / "packed", device_map="cpu", dtype=torch.float32
        ).eval()

    with model.mode("base"):
        assert torch.equal(logits(model), logits(again()))
    # Wrapped before its first pass, which packs the weights anew: PEFT would miss that.
    adapted = PeftModel.from_pretrained(again(), tmp_path / "adapter").eval()
    assert torch.equal(logits(model), logits(adapted))
    for layer in adapted.modules():
        if isinstance(layer, LoraLayer) and layer.in_features + layer.out_features == 192:
            layer.enable_adapters(False)  # the feed-forward block's, 64 to 128 and back
    with model.mode("taia"):
        assert torch.equal(logits(model), logits(adapted))


def test_what_no_rule_labels_can_be_declared(tmp_path):
    """For adapters and for checkpoints."""
    model = tiny_models.llama()
    model.model.layers[1].flux = torch.nn.Linear(32, 32)
    tuned = tiny_models.llama()
    tuned.model.layers[1].flux = torch.nn.Linear(32, 32)
    torch.nn.init.ones_(tuned.model.layers[1].flux.weight)
    with pytest.raises(AnatomyError, match="flux"):
        SwitchableModel.wrap(model, tuned)
    before = model.model.layers[1].flux.weight.detach().clone()
    found = SwitchableModel.wrap(model, tuned, declare={"*.flux.*": "mlp"})
    with found.mode("taia"):
        live = found.model.model.layers[1].flux.weight
        assert torch.equal(live, before)
        assert not torch.equal(live, tuned.model.layers[1].flux.weight)
    adapted = tiny_models.lora(tiny_models.llama())
    adapted.get_base_model().model.layers[1].flux = torch.nn.Linear(32, 32)
    with pytest.raises(AnatomyError, match="flux"):
        SwitchableModel.wrap(adapted)
    assert "taia" in SwitchableModel.wrap(adapted, declare={"*.flux.*": "mlp"}).modes


def test_declarations_go_through_load(tmp_path):
    base, adapter = tiny_adapters.save_pair(tmp_path, "llama")
    declared = SwitchableModel.load(
        base, adapter, device="cpu", declare={"*.up_proj.*": "attention"}
    )
    plain = SwitchableModel.load(base, adapter, device="cpu")
    with declared.mode("attention"), plain.mode("attention + up_proj"):
        assert torch.equal(logits(declared), logits(plain))


@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"trainable_token_indices": [1, 2]},
        {"modules_to_save": ["embed_tokens"]},
    ],
)
def test_an_adapted_embedding_still_tells_its_size_and_place(tmp_path, options):
    base, adapter = tiny_adapters.save_pair(tmp_path, "llama", **options)
    model = SwitchableModel.load(base, adapter, device="cpu")
    assert model.device == torch.device("cpu")
    assert Limits.of(model.model).tokens == 64


@pytest.mark.parametrize("kind", [MemoryError, torch.OutOfMemoryError])
def test_memory_that_runs_out_under_an_adapter_is_not_bad_input(tmp_path, monkeypatch, kind):
    base, adapter = tiny_adapters.save_pair(tmp_path, "llama")

    def full(*_args, **_options):
        raise kind("no room")

    monkeypatch.setattr("peft.PeftModel.from_pretrained", full)
    with pytest.raises(MemoryError, match="no room"):
        SwitchableModel.load(base, adapter, device="cpu")


@pytest.mark.parametrize(
    "options", [{}, {"trainable_token_indices": [260, 261]}, {"bias": "lora_only"}]
)
def test_an_adapter_on_a_larger_vocabulary_is_refused_with_the_sizes(tmp_path, options):
    """peft#1554: nobody can say what the base would be on tokens that it never had."""
    base = tiny_models.save_llama(tmp_path / "base", tie_word_embeddings=False)
    larger = tiny_models.llama(tie_word_embeddings=False)
    larger.name_or_path = str(base)
    larger.resize_token_embeddings(264)
    tiny_models.lora(larger, **options).save_pretrained(tmp_path / "adapter")
    with pytest.raises(AdapterError, match=r"\[264, 32\], and the base model as \[260, 32\]"):
        SwitchableModel.load(base, tmp_path / "adapter", device="cpu")
    larger = tiny_models.llama(tie_word_embeddings=False)
    larger.resize_token_embeddings(264)
    larger.save_pretrained(tmp_path / "larger")
    model = SwitchableModel.load(tmp_path / "larger", tmp_path / "adapter", device="cpu")
    with model.mode("base"):
        assert torch.equal(logits(model), logits(larger.eval()))
