"""TAIA of a MoLoRA adapter on disk: its parts are told apart, and go together or not at all."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel
from peft.tuners import lora
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file

import tiny_models
from taia.checkpoint.compose import compose
from taia.checkpoint.inspection import anatomy_of
from taia.errors import AdapterError
from tiny_molora import MEDCARE, molora

IDS = torch.arange(24).reshape(2, 12)
EXPERTS = ("lora_router", "lora_experts")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_models.save_llama(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module", params=[{}, {"use_rslora": True, "rank_pattern": {"up_proj": 2}}])
def adapter(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter")
    molora(**MEDCARE, **request.param).save_pretrained(folder)
    return folder


@torch.no_grad()
def logits(model):
    return model.eval()(input_ids=IDS).logits


def tensors(folder):
    return load_file(folder / "adapter_model.safetensors")


def config(folder):
    return json.loads((folder / "adapter_config.json").read_text())


def loaded(folder):
    return PeftModel.from_pretrained(tiny_models.llama(), folder)


def only(adapter, keep):
    """The whole adapter, with what ``keep(name)`` does not keep switched off by a zero B."""
    model = loaded(adapter)
    for name, parameter in model.named_parameters():
        if (".lora_B" in name or name.endswith("lora_experts.default.B")) and not keep(name):
            parameter.data.zero_()
    return model


def test_inspect_tells_router_experts_and_shared_experts_apart(adapter):
    found = {}
    for name, label in anatomy_of(adapter).items():
        part = name.partition(".lora_")[2].partition(".")[0]
        found.setdefault((part, ".mlp." in name), set()).add(label.component)
        assert label.layer in (0, 1)
    assert found == {
        ("A", False): {"attention"},
        ("B", False): {"attention"},
        ("A", True): {"shared_experts"},
        ("B", True): {"shared_experts"},
        ("router", True): {"router"},
        ("experts", True): {"experts"},
    }


@pytest.mark.parametrize("with_base", [True, False])
def test_taia_of_it_is_a_plain_lora_of_the_same_bytes(base, adapter, tmp_path, with_base):
    done = compose(base if with_base else None, adapter, tmp_path / "out", keep="taia")
    found, whole = tensors(tmp_path / "out"), tensors(adapter)
    assert set(found) == {name for name in whole if "self_attn" in name}
    assert all(torch.equal(tensor, whole[name]) for name, tensor in found.items())
    kept = config(tmp_path / "out")
    assert kept["peft_type"] == "LORA"
    assert not {"num_experts", "expert_modules", "routing", "top_k"} & set(kept)
    assert {row.component for row in done.rows if row.base.tensors} == {
        "experts",
        "shared_experts",
        "router",
    }


def test_peft_alone_loads_it_and_it_is_the_adapter_with_its_experts_off(base, adapter, tmp_path):
    compose(base, adapter, tmp_path / "out", keep="taia")
    model = loaded(tmp_path / "out")
    assert type(model.peft_config["default"]) is LoraConfig
    kinds = {type(m) for m in model.modules() if isinstance(m, BaseTunerLayer)}
    assert kinds == {lora.Linear}, "these are PEFT's own"
    found = logits(model)
    assert torch.equal(found, logits(only(adapter, lambda name: "self_attn" in name)))
    assert not torch.equal(found, logits(loaded(adapter)))


@pytest.mark.parametrize("with_base", [True, False])
def test_medcare_keeps_attention_and_the_shared_experts_as_a_plain_lora(
    base, adapter, tmp_path, with_base
):
    keep = "attention + shared_experts"
    compose(base if with_base else None, adapter, tmp_path / "out", keep=keep)
    kept = config(tmp_path / "out")
    assert kept["peft_type"] == "LORA"
    other = kept["use_rslora"]
    assert kept["rank_pattern"] == {
        "down_proj": 8,
        "gate_proj": 8,
        "up_proj": 4 if other else 8,
    }
    assert kept["alpha_pattern"] == dict.fromkeys(("down_proj", "gate_proj", "up_proj"), 16)
    assert not [name for name in tensors(tmp_path / "out") if any(part in name for part in EXPERTS)]
    found = logits(loaded(tmp_path / "out"))
    assert torch.equal(found, logits(only(adapter, lambda name: "experts" not in name)))


def test_merged_it_is_the_same_up_to_rounding(base, adapter, tmp_path):
    keep = "attention + shared_experts"
    compose(base, adapter, tmp_path / "out", keep=keep, merge=True)
    from transformers import AutoModelForCausalLM

    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    wanted = logits(only(adapter, lambda name: "experts" not in name))
    torch.testing.assert_close(logits(merged), wanted, rtol=1e-4, atol=1e-4)
    compose(base, adapter, tmp_path / "taia", keep="taia", merge=True)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "taia")
    wanted = logits(only(adapter, lambda name: "self_attn" in name))
    torch.testing.assert_close(logits(merged), wanted, rtol=1e-4, atol=1e-4)


def test_tuned_is_the_whole_adapter(base, adapter, tmp_path):
    compose(base, adapter, tmp_path / "out", keep="tuned")
    assert config(tmp_path / "out") == config(adapter)
    found, whole = tensors(tmp_path / "out"), tensors(adapter)
    assert list(found) == list(whole)
    assert all(torch.equal(found[name], whole[name]) for name in whole)
    assert "import taia.molora" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        ("taif", lambda name: ".mlp." in name),
        ("attention + mlp[:1]", lambda name: ".mlp." not in name or ".layers.0." in name),
        ("all - shared_experts", lambda name: ".mlp." not in name or "experts" in name),
        ("all - up_proj", lambda name: "up_proj" not in name),
        (
            "all - (experts + router)[1:]",
            lambda name: "experts" not in name or ".layers.0." in name,
        ),
    ],
)
def test_what_keeps_experts_stays_molora_and_does_what_is_kept(base, adapter, tmp_path, keep, kept):
    compose(base, adapter, tmp_path / "out", keep=keep)
    assert config(tmp_path / "out")["peft_type"] == "MOLORA"
    assert torch.equal(logits(loaded(tmp_path / "out")), logits(only(adapter, kept)))


def test_a_fraction_is_folded_into_b_and_the_router_chooses_as_before(base, adapter, tmp_path):
    compose(base, adapter, tmp_path / "out", keep="attention + 0.5*mlp")
    found, whole = tensors(tmp_path / "out"), tensors(adapter)
    for name, tensor in whole.items():
        halved = ".mlp." in name and (name.endswith("experts.B") or "lora_B" in name)
        assert torch.equal(found[name], tensor * 0.5 if halved else tensor), name


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ("attention + experts", "keeps the experts .* drops its router"),
        ("all - experts", "keeps the router .* drops its experts"),
        ("all - 0.5*router", "router .* is 0.5: it chooses"),
        ("all - shared_experts[1:]", "without their shared expert"),
    ],
)
def test_parts_that_are_nothing_alone_are_refused(base, adapter, tmp_path, keep, message):
    with pytest.raises(AdapterError, match=message):
        compose(base, adapter, tmp_path / "out", keep=keep)
    assert not (tmp_path / "out").exists()


def test_experts_are_not_merged(base, adapter, tmp_path):
    with pytest.raises(AdapterError, match="depends on the token"):
        compose(base, adapter, tmp_path / "out", keep="all", merge=True)
    with pytest.raises(AdapterError, match="depends on the token"):
        compose(base, adapter, None, keep="attention + 0.5*mlp", merge=True, dry_run=True)


def test_rows_of_a_fused_projection_are_told_apart(tmp_path):
    base = tiny_models.model("phi3", **tiny_models.LLAMA)
    base.save_pretrained(tmp_path / "base")
    molora(base, **MEDCARE).save_pretrained(tmp_path / "adapter")
    compose(tmp_path / "base", tmp_path / "adapter", tmp_path / "out", keep="all - up_proj")
    found, whole = tensors(tmp_path / "out"), tensors(tmp_path / "adapter")
    for name, tensor in whole.items():
        wanted = tensor.clone()
        if "gate_up_proj" in name and "lora_B" in name:
            wanted[48:] = 0
        elif "gate_up_proj" in name and name.endswith("experts.B"):
            wanted[..., 48:] = 0
        assert torch.equal(found[name], wanted), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, c: t.pop(next(n for n in t if "router" in n)), "has no router"),
        (lambda t, c: t.pop(next(n for n in t if n.endswith("experts.A"))), "has no experts_A"),
        (lambda t, c: c.update(num_experts=7), "says 7 experts"),
        (lambda t, c: c.update(r=3), "rank"),
        (lambda t, c: c.update(peft_type="LORA"), "is MoLoRA's"),
        (lambda t, c: c.update(shared_expert=3), "rank 12"),
        (lambda t, c: c.update(num_experts="8"), "num_experts='8'"),
    ],
)
def test_a_damaged_adapter_is_refused(base, adapter, tmp_path, change, message):
    shutil.copytree(adapter, tmp_path / "bad")
    held, settings = tensors(adapter), config(adapter)
    change(held, settings)
    save_file(held, tmp_path / "bad" / "adapter_model.safetensors")
    (tmp_path / "bad" / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(AdapterError, match=message):
        compose(base, tmp_path / "bad", tmp_path / "out", keep="all")


def test_experts_on_attention_are_attention(base, tmp_path):
    molora(expert_modules=["q_proj", "up_proj"]).save_pretrained(tmp_path / "adapter")
    compose(base, tmp_path / "adapter", tmp_path / "out", keep="taia")
    kept = config(tmp_path / "out")
    assert (kept["peft_type"], kept["expert_modules"]) == ("MOLORA", ["q_proj"])
    found = logits(loaded(tmp_path / "out"))
    assert torch.equal(found, logits(only(tmp_path / "adapter", lambda n: "self_attn" in n)))
