"""Configs as other tools and versions leave them: filtered, merged and live alike, or refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from taia import SwitchableModel
from taia.checkpoint.compose import compose
from taia.errors import AdapterError
from taia.export.run import export
from tiny_adapters import load_adapted, load_base, logits, save_pair

CONFIG = "adapter_config.json"

#: What a config may say instead → what PEFT makes of the adapter stays what it is.
ALIKE: dict[str, dict[str, Any]] = {
    "rank_pattern null": {"rank_pattern": None},
    "alpha_pattern null": {"alpha_pattern": None},
    "bias null": {"bias": None},
    "dropout null": {"lora_dropout": None},
    "all of them": dict.fromkeys(["rank_pattern", "alpha_pattern", "bias", "lora_dropout"]),
    "layers_pattern null": {"layers_pattern": None},
    "use_rslora null": {"use_rslora": None},
    "modules null": {"target_modules": None},
    "no modules": {"target_modules": []},
    "no tokens": {"trainable_token_indices": []},
    "no tokens of none": {"trainable_token_indices": {}},
    "a key of the future": {"quantum_config": {"qubits": [1, {"a": None}]}},
    "a version of the future": {"peft_version": "99.1.0.dev7@abc"},
    "a running model's": {"runtime_config": {"ephemeral_gpu_offload": False}},
    "no task": {"task_type": None},
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[Path, Path]:
    # Not what PEFT would choose by itself for a Llama: query and value.
    folder = tmp_path_factory.mktemp("pair")
    return save_pair(folder, "llama", target_modules=["q_proj", "o_proj", "up_proj"])


def changed(adapter: Path, folder: Path, values: dict[str, Any]) -> Path:
    shutil.copytree(adapter, folder)
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, **values}))
    return folder


@pytest.mark.parametrize("kind", ALIKE)
def test_every_way_takes_it_alike(pair, tmp_path, kind):
    base, given = pair
    adapter = changed(given, tmp_path / "adapter", ALIKE[kind])
    wanted = logits(load_adapted(base, given))
    compose(base, adapter, tmp_path / "out", "tuned")
    assert torch.equal(logits(load_adapted(base, tmp_path / "out")), wanted)
    compose(base, adapter, tmp_path / "merged", "tuned", merge=True)
    assert (logits(load_base(tmp_path / "merged")) - wanted).abs().max() < 1e-5
    model = SwitchableModel.load(base, adapter, device="cpu")
    with model.mode("tuned"):
        assert torch.equal(logits(model), wanted)
    with model.mode("base"):
        assert torch.equal(logits(model), logits(load_base(base)))


@pytest.mark.parametrize("kind", ["all of them", "modules null"])
def test_an_export_is_one_that_peft_takes(pair, tmp_path, kind):
    base, given = pair
    adapter = changed(given, tmp_path / "adapter", ALIKE[kind])
    (check,) = export(adapter, "transformers", tmp_path / "out", base=str(base)).checks
    assert check.passed
    wanted = logits(load_adapted(base, given))
    assert torch.equal(logits(load_adapted(base, tmp_path / "out")), wanted)


@pytest.mark.parametrize(
    "values",
    [
        {"target_modules": ["q_proj", "o_proj"]},  # somebody made a TAIA of the config alone
        {"exclude_modules": ["up_proj"]},
        {"layers_to_transform": [0, 1]},
        {"modules_to_save": ["mlp"]},
    ],
    ids=str,
)
def test_what_peft_would_leave_out_is_refused(pair, tmp_path, values):
    base, given = pair
    adapter = changed(given, tmp_path / "adapter", values)
    for merge in (False, True):
        with pytest.raises(AdapterError, match="PEFT would leave it out"):
            compose(base, adapter, tmp_path / "out", "tuned", merge=merge)
    with pytest.raises(AdapterError):
        SwitchableModel.load(base, adapter, device="cpu")
    assert not (tmp_path / "out").exists()


def test_what_peft_does_not_take_is_told(pair, tmp_path):
    base, given = pair
    adapter = changed(given, tmp_path / "adapter", {"task_type": "POETRY"})
    with pytest.raises(AdapterError, match=r"PEFT does not take .*adapter_config.json.*POETRY"):
        SwitchableModel.load(base, adapter, device="cpu")


@pytest.mark.parametrize("saved", [["ln_f"], ["ln_1", "ln_f"]])
def test_what_peft_saves_twice_is_no_stranger_to_the_live_model(tmp_path, saved):
    """With ``bias="all"`` PEFT writes the bias of a module kept whole under two names."""
    lora = {"target_modules": ["c_attn"], "bias": "all", "modules_to_save": saved}
    base, adapter = save_pair(tmp_path, "gpt2", **lora)
    wanted = logits(PeftModel.from_pretrained(load_base(base), adapter).eval())
    model = SwitchableModel.load(base, adapter, device="cpu")
    with model.mode("tuned"):
        assert torch.equal(logits(model), wanted)
    with model.mode("base"):
        assert torch.equal(logits(model), logits(load_base(base)))
    compose(base, adapter, tmp_path / "merged", "tuned", merge=True)
    assert (logits(load_base(tmp_path / "merged")) - wanted).abs().max() < 1e-5
