"""Several updates of one parameter, composed as PEFT composes them; PEFT's own merge is asked."""

from __future__ import annotations

import json
import shutil
import struct
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from taia.checkpoint import arithmetic
from taia.checkpoint.compose import compose
from taia.checkpoint.header import make_header
from tiny_adapters import load_adapted, load_base, logits, quiet, save_pair

WEIGHTS = "adapter_model.safetensors"
BELOW = "base_layer.weight"

#: What PEFT saves with more than one update of a parameter: what lies below an update of the head
#: or the embedding, which here is not the base's.
TWICE = [
    ("llama", {"target_modules": ["q_proj", "lm_head"]}),
    ("llama", {"target_modules": ["q_proj", "embed_tokens"]}),
    ("llama", {"target_modules": ["embed_tokens", "lm_head"], "use_dora": True}),
    ("llama", {"target_modules": ["embed_tokens", "lm_head"], "use_rslora": True}),
    ("tied-llama", {"target_modules": ["q_proj", "lm_head"]}),
    ("tied-llama", {"target_modules": ["q_proj", "embed_tokens"]}),
    ("tied-llama", {"target_modules": ["embed_tokens", "lm_head"]}),
    ("gpt2", {"target_modules": ["c_attn", "lm_head"]}),
]
twice = pytest.mark.parametrize(("name", "lora"), TWICE, ids=str)


def in_order(adapter: Path, order: list[str]) -> None:
    """Write an adapter's tensors again, in some order."""
    tensors = load_file(adapter / WEIGHTS)
    kinds = {torch.float32: "F32", torch.bfloat16: "BF16"}
    header = make_header([(n, kinds[tensors[n].dtype], tuple(tensors[n].shape)) for n in order], {})
    data = b"".join(bytes(tensors[n].contiguous().view(torch.uint8).numpy()) for n in order)
    (adapter / WEIGHTS).write_bytes(header + data)


def train_below(adapter: Path) -> None:
    """Move what lies below the updates away from the base's values."""
    tensors = load_file(adapter / WEIGHTS)
    below = [name for name in tensors if name.endswith(BELOW)]
    assert below
    content = bytearray((adapter / WEIGHTS).read_bytes())
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    torch.manual_seed(2)
    for name in below:
        moved = tensors[name] + (torch.randn(tensors[name].shape) * 0.1).to(tensors[name].dtype)
        start, stop = (8 + length + offset for offset in header[name]["data_offsets"])
        content[start:stop] = bytes(moved.contiguous().view(torch.uint8).numpy())
    (adapter / WEIGHTS).write_bytes(content)


@twice
def test_a_bfloat16_base_and_a_float32_adapter_are_merged_as_peft_does(tmp_path, name, lora):
    """safetensors orders by dtype, so that what lies below comes last in the file."""
    base, adapter = save_pair(tmp_path, name, torch.bfloat16, autocast=True, **lora)
    train_below(adapter)
    assert any(key.endswith(BELOW) for key in list(load_file(adapter / WEIGHTS))[-2:])
    compose(base, adapter, tmp_path / "out", "tuned", merge=True)
    exact = load_adapted(base, adapter, dtype=torch.float32)
    got = load_base(tmp_path / "out")
    assert (logits(got.float()) - logits(exact)).abs().max() < 0.01
    for of in ("get_input_embeddings", "get_output_embeddings"):
        module = getattr(exact.get_base_model(), of)()
        delta = module.get_delta_weight("default") if hasattr(module, "lora_A") else None
        if delta is None or lora.get("use_dora"):
            continue
        wanted = module.base_layer.weight + delta
        made = getattr(load_base(tmp_path / "out"), of)().weight
        assert (made == wanted.bfloat16()).float().mean() > 0.999


@twice
def test_a_fraction_lies_between_the_base_and_the_whole(tmp_path, name, lora):
    base, adapter = save_pair(tmp_path, name, **lora)
    train_below(adapter)
    for folder, keep in (("none", "0*all"), ("whole", "all"), ("part", "0.25*all")):
        compose(base, adapter, tmp_path / folder, keep, merge=True)
    ours, whole, part = (
        load_base(tmp_path / folder).state_dict() for folder in ("none", "whole", "part")
    )
    for key, tensor in part.items():
        wanted = ours[key] + 0.25 * (whole[key] - ours[key])
        torch.testing.assert_close(tensor, wanted, rtol=1e-5, atol=1e-6)
    vocabulary = [key for key in ours if ours[key].shape == ours["lm_head.weight"].shape]
    assert any((whole[key] - ours[key]).abs().max() > 0.1 for key in vocabulary)


@pytest.mark.parametrize("name", ["llama", "tied-llama"])
def test_the_order_in_the_file_does_not_matter(tmp_path, name):
    targets = ["q_proj", "embed_tokens", "lm_head"]
    base, adapter = save_pair(tmp_path, name, torch.bfloat16, autocast=True, target_modules=targets)
    train_below(adapter)
    compose(base, adapter, tmp_path / "wanted", "tuned", merge=True)
    compose(base, adapter, tmp_path / "half", "0.5*all")
    wanted, half = (
        load_base(tmp_path / "wanted").state_dict(),
        load_file(tmp_path / "half" / WEIGHTS),
    )
    names = list(load_file(adapter / WEIGHTS))

    @settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.permutations(names))
    def check(order):
        in_order(adapter, order)
        for kind, options in (("merged", {"merge": True}), ("filtered", {})):
            keep = "tuned" if options else "0.5*all"
            compose(base, adapter, tmp_path / kind, keep, overwrite=True, **options)
        merged = load_base(tmp_path / "merged").state_dict()
        assert all(torch.equal(merged[key], wanted[key]) for key in wanted)
        filtered = load_file(tmp_path / "filtered" / WEIGHTS)
        assert filtered.keys() == half.keys()
        assert all(torch.equal(filtered[key], half[key]) for key in half)

    check()


@twice
def test_a_filtered_half_is_the_merged_half(tmp_path, name, lora):
    if lora.get("use_dora"):
        pytest.skip("DoRA has no fraction as an adapter")
    base, adapter = save_pair(tmp_path, name, **lora)
    train_below(adapter)
    compose(base, adapter, tmp_path / "filtered", "0.5*all")
    compose(base, adapter, tmp_path / "merged", "0.5*all", merge=True)
    filtered = logits(load_adapted(base, tmp_path / "filtered"))
    assert (filtered - logits(load_base(tmp_path / "merged"))).abs().max() < 1e-5
    assert (filtered - logits(load_adapted(base, adapter))).abs().max() > 1e-2


@pytest.mark.parametrize("bias", ["none", "all", "lora_only"])
@pytest.mark.parametrize("keep", ["tuned", "0.5*all", "taia"])
def test_an_updates_own_bias_is_added_to_the_one_that_was_trained(tmp_path, bias, keep):
    lora = {"target_modules": ["c_attn", "c_fc"], "lora_bias": True, "bias": bias}
    base, adapter = save_pair(tmp_path, "gpt2", fan_in_fan_out=True, **lora)
    compose(base, adapter, tmp_path / "merged", keep, merge=True)
    if keep == "0.5*all" and bias != "none":
        whole, ours = load_adapted(base, adapter).merge_and_unload(), load_base(base)
        got = load_base(tmp_path / "merged").state_dict()
        for key, tensor in ours.state_dict().items():
            wanted = tensor + 0.5 * (whole.state_dict()[key] - tensor)
            torch.testing.assert_close(got[key], wanted, rtol=1e-5, atol=1e-6)
        return
    compose(base, adapter, tmp_path / "filtered", keep)
    filtered = logits(load_adapted(base, tmp_path / "filtered"))
    assert (filtered - logits(load_base(tmp_path / "merged"))).abs().max() < 1e-5


def test_what_lies_below_goes_with_its_update(tmp_path):
    base, adapter = save_pair(tmp_path, "llama", target_modules=["q_proj", "lm_head"])
    train_below(adapter)
    compose(base, adapter, tmp_path / "out", "attention")
    assert not [name for name in load_file(tmp_path / "out" / WEIGHTS) if "lm_head" in name]
    shutil.rmtree(tmp_path / "out")
    compose(base, adapter, tmp_path / "out", "head")
    got = load_adapted(base, tmp_path / "out").lm_head.weight
    assert torch.equal(got, load_file(adapter / WEIGHTS)[f"base_model.model.lm_head.{BELOW}"])


# --- some rows after others ---------------------------------------------------------------------

ENDS = ["q_proj", "down_proj", "embed_tokens", "lm_head"]
HEADS = ["q_proj", "k_proj", "o_proj"]
CONV1D = {"fan_in_fan_out": True}
#: Base, options of its adapter, and what is kept of it: pieces along rows and along columns, too.
IN_ROWS = [
    ("llama", {"target_modules": ENDS}, "tuned"),
    ("llama", {"target_modules": ENDS, "use_dora": True}, "tuned"),
    ("llama", {"target_modules": ENDS, "use_dora": True}, "0.5*all"),
    ("llama", {"target_modules": ENDS, "use_rslora": True, "rank_pattern": {"q_proj": 1}}, "taia"),
    ("llama", {"target_modules": HEADS}, "0.25*attention[:, 1:] + attention[1:, 3]"),
    ("llama", {"target_modules": HEADS, "use_dora": True}, "attention[:, 1:]"),
    ("llama", {"target_modules": ["up_proj"], "modules_to_save": ["norm", "lm_head"]}, "0.3*all"),
    ("tied-llama", {"target_modules": ["lm_head", "q_proj"]}, "0.5*all"),
    ("gpt2", CONV1D, "0.75*all"),
    ("gpt2", {**CONV1D, "target_modules": ["c_attn", "wte"]}, "0.5*embedding + q_proj"),
    ("gpt2", {**CONV1D, "use_dora": True}, "tuned"),
    ("gpt2", {**CONV1D, "use_dora": True}, "q_proj"),
    ("gpt2", CONV1D, "q_proj + 0.5*attention[:, 1:]"),
    ("gpt2", {**CONV1D, "lora_bias": True, "bias": "all"}, "tuned"),
    ("qwen3-moe", {}, "tuned"),
    ("qwen3-moe", {}, "0.5*up_proj + 0.25*attention"),
    ("mixtral", {}, "0.125*experts[1:] + q_proj"),
]


def make_exact(file: Path) -> None:
    """Make all numbers sixteenths: their sums are exact in whatever order a library adds them."""
    tensors = {
        key: (tensor * 64).round().clamp(-64, 64) / 16 for key, tensor in load_file(file).items()
    }
    save_file(tensors, file, {"format": "pt"})


def merged_in(chunk: int, pair: tuple[Path, Path], output: Path, keep: str) -> bytes:
    """What merging writes where so many elements are calculated at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arithmetic, "CHUNK", chunk)
        compose(*pair, output, keep, merge=True, overwrite=True)
    return (output / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("name", "lora", "keep", "dtype"),
    [
        *((*row, torch.float32) for row in IN_ROWS),
        *((*IN_ROWS[1], dtype) for dtype in (torch.float64, torch.bfloat16, torch.float16)),
        *((*IN_ROWS[12], dtype) for dtype in (torch.float64, torch.bfloat16, torch.float16)),
    ],
    ids=str,
)
def test_some_rows_after_others_make_what_all_at_once_make(tmp_path, name, lora, keep, dtype):
    pair = save_pair(tmp_path, name, dtype, autocast=dtype != torch.float64, **lora)
    make_exact(pair[0] / "model.safetensors")
    make_exact(pair[1] / WEIGHTS)
    wanted = merged_in(1 << 40, pair, tmp_path / "out", keep)
    assert merged_in(200, pair, tmp_path / "out", keep) == wanted
    if keep != "tuned" or dtype not in (torch.float32, torch.float64):
        return
    with quiet():
        tuned = load_adapted(*pair).merge_and_unload().state_dict()
    got = load_base(tmp_path / "out").state_dict()
    base = load_base(pair[0]).state_dict()
    assert any((tensor != base[key]).any() for key, tensor in tuned.items())
    for key, tensor in tuned.items():
        torch.testing.assert_close(got[key], tensor, rtol=1e-5, atol=1e-5)


def by_hand(folder: Path, tensors: dict[str, torch.Tensor], config: dict[str, object]) -> Path:
    folder.mkdir()
    adapter = "peft_type" in config
    save_file(tensors, folder / (WEIGHTS if adapter else "model.safetensors"), {"format": "pt"})
    (folder / ("adapter_config.json" if adapter else "config.json")).write_text(json.dumps(config))
    return folder


LORA = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"]}
QUERY = "model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize("shape", [(4, 0), (0, 4), (0, 0)])
def test_what_is_empty_stays_empty(tmp_path, shape):
    base = by_hand(tmp_path / "base", {f"{QUERY}.weight": torch.zeros(shape)}, {})
    sides = {"lora_A": torch.ones(2, shape[1]), "lora_B": torch.ones(shape[0], 2)}
    sides = {f"base_model.model.{QUERY}.{side}.weight": tensor for side, tensor in sides.items()}
    adapter = by_hand(tmp_path / "adapter", sides, LORA)
    compose(base, adapter, tmp_path / "out", "all", merge=True)
    assert load_file(tmp_path / "out" / "model.safetensors")[f"{QUERY}.weight"].shape == shape


def test_a_single_number_is_replaced(tmp_path):
    name = "model.layers.0.self_attn.scale"
    weight = {f"{QUERY}.weight": torch.zeros(4, 4)}
    base = by_hand(tmp_path / "base", {**weight, name: torch.tensor(1.0)}, {})
    saved = {f"base_model.model.{name}": torch.tensor(3.0)}
    config = {**LORA, "modules_to_save": ["self_attn"], "target_modules": []}
    adapter = by_hand(tmp_path / "adapter", saved, config)
    declare = {name: "attention"}
    for keep, wanted in (("all", 3.0), ("0.5*all", 2.0)):
        output = tmp_path / keep[:3]
        compose(base, adapter, output, keep, merge=True, declare=declare)
        assert load_file(output / "model.safetensors")[name] == wanted


def test_what_is_too_large_for_float16_is_infinite_as_in_torch(tmp_path):
    base = by_hand(tmp_path / "base", {f"{QUERY}.weight": torch.full((4, 4), 60000.0).half()}, {})
    b = torch.tensor([[5504.0, 0], [5519.0, 0], [5520.0, 0], [-130000.0, 0]])
    sides = {"lora_A": torch.ones(2, 4), "lora_B": b}
    sides = {f"base_model.model.{QUERY}.{side}.weight": tensor for side, tensor in sides.items()}
    adapter = by_hand(tmp_path / "adapter", sides, LORA)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compose(base, adapter, tmp_path / "out", "all", merge=True)
    got = load_file(tmp_path / "out" / "model.safetensors")[f"{QUERY}.weight"]
    assert torch.equal(got[:, 0], (60000.0 + b[:, 0]).half())
    assert got[:, 0].tolist() == [65504.0, 65504.0, float("inf"), float("-inf")]
