"""Checkpoints and adapters that were saved inside a wrapper around the model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from taia.anatomy import Anatomy, TensorInfo
from taia.checkpoint.compose import compose
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.inspection import anatomy_of
from taia.errors import CheckpointError, InputError, MismatchError
from tiny_files import adapter, content, llama, llama_config, write

WRAPPERS = {
    "torch.compile": "_orig_mod.{}",
    "DeepSpeed": "module.{}",
    "FSDP": "_fsdp_wrapped_module.{}",
    "PEFT": "base_model.model.{}",
    "Lightning": "_forward_module.{}",
}


def wrapped(pattern: str) -> dict:
    """Name inside a wrapper → name of the model; ``[inner]`` is put into each layer's path."""
    found = {}
    for name in llama():
        parts = name.split(".")
        if not pattern.startswith("[inner]"):
            found[pattern.format(name)] = name
            continue
        if parts[1] == "layers":
            parts.insert(3, pattern.removeprefix("[inner]"))
        found[".".join(parts)] = name
    return found


def save(folder: Path, pattern: str, plain: Path) -> Path:
    names, data = wrapped(pattern), content(plain)
    shapes = {name: llama()[old] for name, old in names.items()}
    moved = {name: data[old] for name, old in names.items()}
    return write(folder, shapes, config=llama_config(), content=moved)


@pytest.mark.parametrize(
    "pattern",
    [
        *WRAPPERS.values(),
        "module._orig_mod.{}",
        "_orig_mod.module.{}",
        "module.base_model.model.{}",
        "base_model.model._orig_mod.{}",
        "[inner]_fsdp_wrapped_module",
        "[inner]_fsdp_wrapped_module._checkpoint_wrapped_module",
        "[inner]_orig_mod",
    ],
)
def test_a_wrapped_models_names_are_found_in_the_base(tmp_path: Path, pattern: str) -> None:
    base = write(tmp_path / "base", llama(), 0, config=llama_config())
    plain = write(tmp_path / "plain", llama(), 1, config=llama_config())
    tuned = save(tmp_path / "tuned", pattern, plain)
    done = compose(base, tuned, tmp_path / "out", "taia")
    compose(base, plain, tmp_path / "wanted", "taia")
    assert content(tmp_path / "out") == content(tmp_path / "wanted")
    assert any("saved inside" in note for note in done.notes)
    with pytest.raises(CheckpointError) as caught:  # nothing would load an output with these names
        compose(tuned, base, tmp_path / "no")
    assert "saved inside" in caught.value.problem
    assert "save_pretrained" in caught.value.mend


@pytest.mark.parametrize(("whose", "pattern"), WRAPPERS.items())
def test_the_wrapper_is_named(tmp_path: Path, whose: str, pattern: str) -> None:
    plain = write(tmp_path / "plain", llama(), config=llama_config())
    made = save(tmp_path / "m", pattern, plain)
    for use in (lambda: compose(made, made, None, dry_run=True), lambda: anatomy_of(made)):
        with pytest.raises(CheckpointError, match=whose):
            use()


def test_an_adapter_of_a_compiled_model_gets_names_that_peft_loads(tmp_path: Path) -> None:
    base = write(tmp_path / "base", llama(), config=llama_config())
    made = adapter(tmp_path / "plain")
    compose(base, made, tmp_path / "wanted", "taia")
    file, prefix = made / "adapter_model.safetensors", "base_model.model."
    shapes, data = {}, {}
    for name, entry in Checkpoint.open(file).tensors.items():
        new = f"{prefix}_orig_mod.{name.removeprefix(prefix)}"
        shapes[new] = (entry.dtype, entry.shape)
        data[new] = file.read_bytes()[entry.start : entry.stop]
    compiled = adapter(tmp_path / "compiled")
    inner = write(tmp_path / "x", shapes, content=data)
    (inner / "model.safetensors").replace(compiled / "adapter_model.safetensors")
    compose(base, compiled, tmp_path / "out", "taia")
    wanted, out = (tmp_path / side / "adapter_model.safetensors" for side in ("wanted", "out"))
    assert content(out) == content(wanted)


@pytest.mark.parametrize(
    ("plain", "saved", "mend"),
    [
        ("lm_head.weight", "lm_head.modules_to_save.default.weight", "merge_and_unload"),
        ("lm_head.weight", "base_model.model.lm_head.original_module.weight", "merge_and_unload"),
        ("_proj.weight", "_proj.base_layer.weight", "merge_and_unload"),
        ("q_proj.weight", "q_proj.parametrizations.weight.original", "remove_parametrizations"),
        ("mlp.gate_proj.weight", "_fsdp_wrapped_module._flat_param", "FULL_STATE_DICT"),
    ],
)
def test_what_is_no_weight_yet_is_refused_on_either_side(
    tmp_path: Path, plain: str, saved: str, mend: str
) -> None:
    base = write(tmp_path / "base", llama(), config=llama_config())
    shapes = {name.replace(plain, saved): shape for name, shape in llama().items()}
    made = write(tmp_path / "made", shapes, 1, config=llama_config())
    for use in (
        lambda: compose(base, made, tmp_path / "out"),
        lambda: compose(made, base, tmp_path / "out"),
        lambda: anatomy_of(made),
    ):
        with pytest.raises(CheckpointError) as caught:
            use()
        assert saved.rpartition(".")[0] in caught.value.problem
        assert mend in caught.value.mend
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["lm_head.out.weight", "lm_head.linear.weight", "head.weight"])
def test_a_head_in_another_place_is_not_one_that_was_tied(tmp_path: Path, name: str) -> None:
    base = write(tmp_path / "base", llama(), config=llama_config())
    shapes = {n.replace("lm_head.weight", name): shape for n, shape in llama().items()}
    tuned = write(tmp_path / "tuned", shapes, 1, config=llama_config())
    with pytest.raises(InputError, match=name):
        compose(base, tuned, tmp_path / "out")


def test_two_names_that_unwrap_to_one_are_not_guessed(tmp_path: Path) -> None:
    base = write(tmp_path / "base", llama(), config=llama_config())
    name = "model.norm.weight"
    shapes = {key: value for key, value in llama().items() if key != name}
    shapes |= {f"module.{name}": llama()[name], f"_orig_mod.{name}": llama()[name]}
    tuned = write(tmp_path / "tuned", shapes, 1, config=llama_config())
    with pytest.raises(MismatchError, match=name):
        compose(base, tuned, None, dry_run=True)


def test_a_model_that_lacks_many_tensors_is_labelled_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = write(tmp_path / "base", llama(40), config=llama_config(40))
    kept = {name: value for name, value in llama(40).items() if ".mlp." not in name}
    tuned = write(tmp_path / "tuned", kept, 1, config=llama_config(40))
    labelled: list[int] = []
    plain = Anatomy.of_tensors

    def counting(tensors: Iterable[TensorInfo], *more: Any) -> Anatomy:
        infos = list(tensors)
        labelled.append(len(infos))
        return plain(infos, *more)

    monkeypatch.setattr(Anatomy, "of_tensors", counting)
    with pytest.raises(MismatchError, match=r"119 more"):
        compose(base, tuned, None, dry_run=True)
    assert sum(labelled) <= 2 * len(llama(40))
