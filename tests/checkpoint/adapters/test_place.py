"""Where an update belongs: the architecture tells and no flag, names where bytes are packed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from taia.checkpoint.compose import compose
from taia.errors import AdapterError
from tiny_adapters import load_adapted, load_base, logits, save_pair

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def with_config(adapter: Path, folder: Path, **values: object) -> Path:
    shutil.copytree(adapter, folder)
    config = json.loads((adapter / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, **values}))
    return folder


# --- fan_in_fan_out, on matrices whose shape does not tell --------------------------------------


@pytest.mark.parametrize("flag", [True, False, None])
@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("llama", ["q_proj", "o_proj"]),  # square, Linear
        ("llama", ["q_proj", "down_proj", "lm_head", "embed_tokens"]),
        ("gpt2", ["attn.c_proj", "c_attn"]),  # square, Conv1D
        ("gpt2", ["attn.c_proj"]),
    ],
    ids=str,
)
def test_the_architecture_decides_and_not_the_flag(tmp_path, name, targets, flag):
    lora = {"target_modules": targets, "fan_in_fan_out": name == "gpt2"}
    base, given = save_pair(tmp_path, name, **lora)
    wanted = logits(load_adapted(base, given))
    adapter = with_config(given, tmp_path / "flagged", fan_in_fan_out=flag)
    compose(base, adapter, tmp_path / "merged", "tuned", merge=True)
    assert (logits(load_base(tmp_path / "merged")) - wanted).abs().max() < 1e-5
    # A fraction of some heads is of rows or of columns.
    term = "o_proj[:, 1]" if name == "gpt2" else "q_proj[:, 1]"
    for kind, merge in (("out", False), ("half", True)):
        compose(base, adapter, tmp_path / kind, f"0.5*{term}", merge=merge)
    filtered = with_config(tmp_path / "out", tmp_path / "again", fan_in_fan_out=name == "gpt2")
    assert (
        logits(load_adapted(base, filtered)) - logits(load_base(tmp_path / "half"))
    ).abs().max() < 1e-5


def test_without_a_config_the_fused_projections_tell(tmp_path):
    base, adapter = save_pair(tmp_path, "gpt2", target_modules=["attn.c_proj"])
    compose(base, adapter, tmp_path / "wanted", "tuned", merge=True)
    file = shutil.copy(base / "model.safetensors", tmp_path / "model.safetensors")
    compose(file, adapter, tmp_path / "out", "tuned", merge=True)
    got, wanted = (
        load_file(tmp_path / folder / "model.safetensors") for folder in ("out", "wanted")
    )
    assert all(torch.equal(got[key], wanted[key]) for key in wanted)


# --- quantised bases ----------------------------------------------------------------------------


def packed(path: str, weight: torch.Tensor, method: str) -> dict[str, torch.Tensor]:
    """A weight's tensors as a method's own files name and shape them."""
    rows, columns = weight.shape
    u8, i32 = torch.uint8, torch.int32
    if method == "bitsandbytes 4-bit":
        return {
            f"{path}.weight": torch.zeros(rows * columns // 2, 1, dtype=u8),
            f"{path}.weight.absmax": torch.zeros(16, dtype=u8),
            f"{path}.weight.quant_map": torch.zeros(16),
            f"{path}.weight.nested_absmax": torch.zeros(2),
            f"{path}.weight.nested_quant_map": torch.zeros(256),
            f"{path}.weight.quant_state.bitsandbytes__nf4": torch.zeros(80, dtype=u8),
        }
    if method == "bitsandbytes 8-bit":
        return {
            f"{path}.weight": torch.zeros(rows, columns, dtype=torch.int8),
            f"{path}.SCB": torch.zeros(rows),
        }
    if method == "gptq":
        return {
            f"{path}.qweight": torch.zeros(columns // 8, rows, dtype=i32),
            f"{path}.qzeros": torch.zeros(1, rows // 8, dtype=i32),
            f"{path}.scales": torch.zeros(1, rows, dtype=torch.float16),
            f"{path}.g_idx": torch.zeros(columns, dtype=i32),
        }
    if method == "awq":
        return {
            f"{path}.qweight": torch.zeros(columns, rows // 8, dtype=i32),
            f"{path}.qzeros": torch.zeros(1, rows // 8, dtype=i32),
            f"{path}.scales": torch.zeros(1, rows, dtype=torch.float16),
        }
    if method == "compressed-tensors":
        return {
            f"{path}.weight_packed": torch.zeros(rows, columns // 8, dtype=i32),
            f"{path}.weight_scale": torch.zeros(rows, 1),
            f"{path}.weight_shape": torch.zeros(2, dtype=torch.int64),
        }
    return {
        f"{path}.weight": torch.zeros(rows, columns).to(torch.float8_e4m3fn),
        f"{path}.weight_scale_inv": torch.zeros(1, 1),
    }


METHODS = (
    "bitsandbytes 4-bit",
    "bitsandbytes 8-bit",
    "gptq",
    "awq",
    "compressed-tensors",
    "fp8",
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return save_pair(tmp_path_factory.mktemp("pair"), "llama")


@pytest.fixture(params=METHODS)
def quantised(request, pair, tmp_path) -> Path:
    folder = tmp_path / "quantised"
    shutil.copytree(pair[0], folder)
    tensors = {}
    for name, weight in load_file(pair[0] / "model.safetensors").items():
        if "_proj" in name:
            tensors |= packed(name.removesuffix(".weight"), weight, request.param)
        else:
            tensors[name] = weight
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": request.param}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    "keep",
    ["taia", "tuned", "taif", "attention[1:]", "0.5*mlp", "q_proj[:, 0:2]", "attention[-1] + mlp"],
)
def test_an_adapter_on_a_quantised_base_is_filtered_as_on_the_plain_one(
    pair, quantised, tmp_path, keep
):
    base, adapter = pair
    compose(base, adapter, tmp_path / "wanted", keep)
    compose(quantised, adapter, tmp_path / "out", keep)
    out, wanted = (load_file(tmp_path / folder / WEIGHTS) for folder in ("out", "wanted"))
    assert out.keys() == wanted.keys()
    assert all(torch.equal(out[name], wanted[name]) for name in wanted)
    configs = [json.loads((tmp_path / f / CONFIG).read_text()) for f in ("out", "wanted")]
    assert configs[0] == configs[1]


def test_merging_into_a_quantised_base_is_refused(pair, quantised, tmp_path):
    with pytest.raises(AdapterError, match="quantised") as caught:
        compose(quantised, pair[1], tmp_path / "out", "taia", merge=True)
    assert "without --merge" in caught.value.mend
    assert not (tmp_path / "out").exists()
