"""Where an update belongs: the architecture tells and no flag, names where bytes are packed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from taia.analysis.norms import update_norms
from taia.checkpoint.compose import compose
from taia.errors import AdapterError
from taia.export.run import export
from taia.runtime.switchable import SwitchableModel
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


GPT2 = {"fan_in_fan_out": True}
#: Base, and options of its adapter: square and not, and every kind of update beside LoRA's own.
LIARS = [
    ("llama", {"target_modules": "all-linear", "use_dora": True}),
    ("llama", {"target_modules": ["q_proj", "o_proj", "embed_tokens"], "use_dora": True}),
    ("llama", {"target_modules": ["o_proj", "up_proj"], "rank_pattern": {"o_proj": 2}}),
    ("llama", {"target_modules": ["o_proj"], "modules_to_save": ["lm_head", "embed_tokens"]}),
    ("tied-llama", {"target_modules": ["o_proj"], "trainable_token_indices": [1, 4]}),
    ("gpt2", {**GPT2, "target_modules": ["c_attn", "c_proj", "c_fc"], "use_dora": True}),
    ("gpt2", {**GPT2, "target_modules": ["attn.c_proj", "c_fc"], "bias": "all"}),
    ("gpt2", {**GPT2, "target_modules": ["attn.c_proj", "c_fc"], "lora_bias": True}),
    ("gpt2", {**GPT2, "target_modules": ["c_proj"], "modules_to_save": ["ln_f"]}),
    (
        "gpt2",
        {
            **GPT2,
            "target_modules": ["c_proj"],
            "use_rslora": True,
            "rank_pattern": {r"h\.1\.mlp\.c_proj": 1},
            "alpha_pattern": {r"h\.2\.attn\.c_proj": 5},
        },
    ),
    ("qwen3-moe", {}),
    ("mixtral", {}),
]


@pytest.mark.parametrize("flag", ["a lie", "nothing"])
@pytest.mark.parametrize(("name", "lora"), LIARS, ids=str)
def test_a_flag_that_lies_changes_nothing_anywhere(tmp_path, name, lora, flag):
    base, given = save_pair(tmp_path, name, **lora)
    whole = load_adapted(base, given).merge_and_unload()
    tensors, wanted = whole.state_dict(), logits(load_adapted(base, given))
    adapter = tmp_path / "flagged"
    shutil.copytree(given, adapter)
    config = json.loads((given / CONFIG).read_text())
    told = config.pop("fan_in_fan_out", None)
    if flag == "a lie":
        config["fan_in_fan_out"] = name != "gpt2"
        assert config["fan_in_fan_out"] != bool(told)
    (adapter / CONFIG).write_text(json.dumps(config))

    compose(base, adapter, tmp_path / "merged", "tuned", merge=True)
    got = load_base(tmp_path / "merged").state_dict()
    assert got.keys() == tensors.keys()
    for key, tensor in tensors.items():
        torch.testing.assert_close(got[key], tensor, rtol=1e-5, atol=1e-5)
    compose(base, adapter, tmp_path / "out", "tuned")
    assert torch.equal(logits(load_adapted(base, tmp_path / "out")), wanted)
    options = {"base": str(base), "merge": True, "verify": False}
    export(adapter, "transformers", tmp_path / "export", **options)
    assert (logits(load_base(tmp_path / "export")) - wanted).abs().max() < 1e-5
    live = SwitchableModel.load(base, adapter, device="cpu")
    assert torch.equal(logits(live), wanted)
    with live.mode("base"):
        assert torch.equal(logits(live), logits(load_base(base)))
    before = update_norms(base, given)
    after = update_norms(base, adapter)
    assert after.rows == before.rows
    total = sum((whole.state_dict()[k] - v).double().norm() ** 2 for k, v in unique(base).items())
    assert sum(row.update**2 for row in after.rows) == pytest.approx(float(total), rel=1e-4)


def unique(base: Path) -> dict[str, torch.Tensor]:
    """The base's tensors, a tied one once."""
    state, found = load_base(base).state_dict(), {}
    for key, tensor in state.items():
        if tensor.data_ptr() not in {t.data_ptr() for t in found.values()}:
            found[key] = tensor
    return found


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
