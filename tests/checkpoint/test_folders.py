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


@pytest.mark.parametrize(
    "whole",
    [
        "pytorch_model.bin",
        "pytorch_model-00001-of-00002.bin",
        "pytorch_model.bin.index.json",
        "model-00001-of-00002.safetensors",
    ],
)
def test_whole_weights_beside_an_adapter_are_seen_in_every_format(
    tmp_path: Path, whole: str
) -> None:
    twofold = adapter(tmp_path / "twofold")
    (twofold / whole).write_bytes(b"x")
    plain = write(tmp_path / "plain", llama(), config=llama_config())
    for one, other in ((plain, twofold), (twofold, plain)):
        with pytest.raises(CheckpointError, match="an adapter") as caught:
            compose(one, other, None, dry_run=True)
        assert whole in caught.value.problem
        assert "adapter_config.json" in caught.value.problem


def test_what_a_trainer_saves_beside_an_adapter_is_no_model(tmp_path: Path) -> None:
    made = adapter(tmp_path / "checkpoint-5")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        (made / name).write_bytes(b"x")
    (made / "adapter_model.bin").write_bytes(b"x")
    assert holds_adapter(made)


def test_an_adapters_weights_alone_are_told_from_a_models(tmp_path: Path) -> None:
    made = adapter(tmp_path / "a")
    (made / "adapter_config.json").unlink()
    with pytest.raises(CheckpointError) as caught:
        Checkpoint.open(made)
    assert "adapter's weights" in caught.value.problem
    assert "adapter_config.json" in caught.value.mend


def test_a_live_model_is_refused_as_a_composed_one_before_the_base_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading = pytest.importorskip("taia.runtime.load")
    plain = write(tmp_path / "plain", llama(), config=llama_config())
    adapter(tmp_path / "saves" / "checkpoint-5")
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "pytorch_model.bin").write_bytes(b"x")
    bare = write(tmp_path / "bare", llama())
    monkeypatch.setattr(loading, "load_model", lambda *_, **__: pytest.fail("it was loaded"))
    for tuned in (tmp_path / "saves", pickled):
        with pytest.raises(CheckpointError) as live:
            loading.load_parts(plain, tuned)
        with pytest.raises(CheckpointError) as composed:
            compose(plain, tuned, None, dry_run=True)
        assert str(live.value) == str(composed.value)
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        loading.load_parts(plain, bare)
    with pytest.raises(CheckpointError, match="one file"):
        loading.load_parts(plain, bare / "model.safetensors")


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


@pytest.mark.parametrize(
    ("files", "what", "mend"),
    [
        (["global_step5/mp_rank_00_model_states.pt", "latest"], "ZeRO", "zero_to_fp32.py"),
        (["checkpoint-5/pytorch_model_fsdp_0/__0_0.distcp"], "torch.distributed", "merge-weights"),
        (["iter_0000100/mp_rank_00/model_optim_rng.pt"], "Megatron-LM", "Hugging Face"),
        (["a/b/MODEL-Q4_K_M.GGUF"], "GGUF", "safetensors"),
        (["blobs/abc.incomplete", "refs/main"], "a download that has not ended", "again"),
        (["pytorch_model_fsdp.bin"], "pickled", "torch.load"),
        (["consolidated.00.pth", "params.json"], "pickled", "torch.load"),
    ],
)
def test_another_format_further_down_is_named_with_its_way_out(
    tmp_path: Path, files: list[str], what: str, mend: str
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(CheckpointError) as caught:
        Checkpoint.open(tmp_path)
    assert what in caught.value.problem
    assert files[0].rpartition("/")[0] in caught.value.problem
    assert mend in caught.value.mend


def test_the_hubs_cache_leads_to_its_snapshots(tmp_path: Path) -> None:
    write(tmp_path / "hub" / "models--org--name" / "snapshots" / "0123abcd", llama())
    for path in (tmp_path, *(tmp_path / "hub").rglob("")):
        if "0123abcd" not in path.parts:
            with pytest.raises(CheckpointError, match=r"snapshots|0123abcd"):
                Checkpoint.open(path)


def test_folders_without_a_model_are_not_called_empty(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "checkpoint-5").mkdir()
    (tmp_path / "checkpoint-5" / "optimizer.pt").write_bytes(b"x")  # no weights
    with pytest.raises(CheckpointError, match="no safetensors weights"):
        Checkpoint.open(tmp_path)


def test_one_of_several_shards_is_not_given_as_the_model(tmp_path: Path) -> None:
    made = write(tmp_path / "m", llama())
    (made / "model.safetensors").rename(made / "model-00001-of-00002.safetensors")
    with pytest.raises(CheckpointError) as caught:
        Checkpoint.open(made)
    assert "model.safetensors.index.json" in caught.value.mend
    assert "Give the file" not in caught.value.mend
