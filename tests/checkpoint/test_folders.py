"""What a folder holds, and what is said where it is no model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from taia.checkpoint.compose import compose
from taia.checkpoint.folders import holds_adapter
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.inspection import anatomy_of
from taia.errors import CheckpointError
from tiny_files import adapter, llama, llama_config, write


def both(folder: Path, *, shards: bool = False) -> Path:
    """A folder that is a whole model, and an adapter."""
    names = list(llama())
    parts = [names[:9], names[9:]] if shards else None
    write(folder, llama(), 1, config=llama_config(), shards=parts)
    made = adapter(folder.parent / "lora")
    config = json.loads((made / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "org/Base"
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (made / "adapter_model.safetensors").rename(folder / "adapter_model.safetensors")
    return folder


@pytest.mark.parametrize("shards", [False, True])
def test_two_readings_are_refused_alike_everywhere(tmp_path: Path, shards: bool) -> None:
    load = pytest.importorskip("taia.runtime.load").load_parts
    from taia.export.source import read_source

    plain = write(tmp_path / "plain", llama(), config=llama_config())
    twofold = both(tmp_path / "twofold", shards=shards)
    said = set()
    for use in (
        lambda: compose(plain, twofold, None, dry_run=True),
        lambda: compose(twofold, plain, None, dry_run=True),
        lambda: compose(twofold, adapter(tmp_path / "other"), None, dry_run=True),
        lambda: load(plain, twofold),
        lambda: load(twofold, None),
        lambda: read_source(twofold),
        lambda: anatomy_of(twofold),
    ):
        with pytest.raises(CheckpointError) as caught:
            use()
        said.add(str(caught.value))
    (one,) = said
    assert "model.safetensors" in one
    assert "adapter_config.json" in one
    assert "org/Base" in one


def test_one_reading_is_one(tmp_path: Path) -> None:
    assert not holds_adapter(write(tmp_path / "m", llama()))
    assert not holds_adapter(write(tmp_path / "m", llama()) / "model.safetensors")
    made = adapter(tmp_path / "a")
    (made / "config.json").write_text(json.dumps(llama_config()))  # some trainers put it there
    assert holds_adapter(made)


def test_models_further_down_are_named(tmp_path: Path) -> None:
    for step in (5, 10, 100):
        adapter(tmp_path / "saves" / "lora" / f"checkpoint-{step}")
    write(tmp_path / "saves" / "full", llama())
    (tmp_path / "saves" / "runs").mkdir()
    with pytest.raises(CheckpointError) as caught:
        Checkpoint.open(tmp_path / "saves")
    said = caught.value.problem
    for below in ("full", "lora/checkpoint-5", "lora/checkpoint-10", "lora/checkpoint-100"):
        assert below in said
    assert said.index("checkpoint-5") < said.index("checkpoint-10,") < said.index("checkpoint-100")
    assert "runs" not in said
    assert str(tmp_path / "saves" / "full") in caught.value.mend
    with pytest.raises(CheckpointError, match="below it there are: checkpoint-5, "):
        compose(tmp_path / "saves" / "full", tmp_path / "saves" / "lora", None, dry_run=True)


def test_links_are_not_followed_down(tmp_path: Path) -> None:
    adapter(tmp_path / "elsewhere" / "lora")
    (tmp_path / "saves").mkdir()
    (tmp_path / "saves" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "saves" / "loop").symlink_to(tmp_path / "saves")
    with pytest.raises(CheckpointError, match="is empty"):
        Checkpoint.open(tmp_path / "saves")


@pytest.mark.parametrize(
    ("name", "what", "mend"),
    [
        ("__0_0.distcp", "torch.distributed.checkpoint", "accelerate merge-weights"),
        ("__0_0.distcp", "torch.distributed.checkpoint", "dcp_to_torch"),
        ("bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt", "ZeRO", "zero_to_fp32.py"),
        ("mp_rank_00_model_states.pt", "ZeRO", "zero_to_fp32.py"),
        ("pytorch_model.bin", "pickled", "save_pretrained"),
        ("last.ckpt", "pickled", "save_pretrained"),
        ("consolidated.00.pth", "pickled", "save_pretrained"),
        ("tf_model.h5", "TensorFlow", "from_tf"),
        ("flax_model.msgpack", "Flax", "from_flax"),
        ("weights.npz", "MLX", "made from"),
        ("model-q4_k_m.gguf", "GGUF", "safetensors"),
        ("model.nemo", "another engine", "safetensors"),
    ],
)
def test_other_formats_are_named_with_the_way_out(
    tmp_path: Path, name: str, what: str, mend: str
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / name).write_bytes(b"x")
    (tmp_path / "m" / ".metadata").write_bytes(b"x")
    for path in (tmp_path / "m", tmp_path / "m" / name):
        with pytest.raises(CheckpointError) as caught:
            Checkpoint.open(path)
        assert what in caught.value.problem
        assert mend in caught.value.mend
    with pytest.raises(CheckpointError, match="below it there are: m"):
        Checkpoint.open(tmp_path)
