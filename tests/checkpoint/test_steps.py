"""Fractions of tensors and pieces of them, against torch and the safetensors library."""

from __future__ import annotations

from pathlib import Path

import pytest

from taia.checkpoint.compose import compose
from taia.errors import SelectionError
from tiny_files import Shapes, content, llama, llama_config, payload, write


def pair(folder: Path, tensors: Shapes) -> list[Path]:
    """A base and a tuned model of these tensors."""
    sides = enumerate(("base", "tuned"))
    return [write(folder / name, tensors, seed, config=llama_config()) for seed, name in sides]


def blend(base, tuned, alpha: float):
    wide = base.double() if base.element_size() == 8 else base.float()
    other = tuned.to(wide.dtype)
    return (wide + alpha * (other - wide)).to(base.dtype)


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32", "F64"])
def test_fractions_are_computed_in_float32(tmp_path, dtype) -> None:
    torch = pytest.importorskip("torch")
    load = pytest.importorskip("safetensors.torch").load_file
    tensors = llama(dtype=dtype)
    base, tuned = pair(tmp_path, tensors)
    done = compose(base, tuned, tmp_path / "out", "attention + 0.3*mlp")
    ours, theirs, out = (load(f / "model.safetensors") for f in (base, tuned, tmp_path / "out"))
    for name in tensors:
        if ".mlp." in name:
            expected = blend(ours[name], theirs[name], 0.3)
        else:
            expected = (theirs if "self_attn" in name else ours)[name]
        assert torch.equal(out[name], expected), name
    assert {row.component for row in done.rows if row.blended.tensors} == {"mlp"}


def test_big_tensors_are_blended_in_chunks_without_a_seam(tmp_path, monkeypatch) -> None:
    torch = pytest.importorskip("torch")
    load = pytest.importorskip("safetensors.torch").load_file
    from taia.checkpoint import arithmetic

    monkeypatch.setattr(arithmetic, "CHUNK", 7)
    base, tuned = pair(tmp_path, llama())
    compose(base, tuned, tmp_path / "out", "0.5*all")
    ours, theirs, out = (load(f / "model.safetensors") for f in (base, tuned, tmp_path / "out"))
    for name in ours:
        assert torch.equal(out[name], blend(ours[name], theirs[name], 0.5)), name


@pytest.mark.parametrize("long_run", [1, 1 << 16])
@pytest.mark.parametrize(
    ("keep", "alphas"),
    [
        ("attention[:, 0:2]", (1.0, 0.0)),
        ("0.5*attention[:, 0:2]", (0.5, 0.0)),
        ("attention[:, 0:2] + 0.25*attention", (1.0, 0.25)),
    ],
)
def test_heads_are_rows_and_columns(tmp_path, monkeypatch, keep, alphas, long_run) -> None:
    torch = pytest.importorskip("torch")
    load = pytest.importorskip("safetensors.torch").load_file
    from taia.checkpoint import steps

    monkeypatch.setattr(steps, "LONG_PIECE", long_run)
    base, tuned = pair(tmp_path, llama())
    compose(base, tuned, tmp_path / "out", keep)
    ours, theirs, out = (load(f / "model.safetensors") for f in (base, tuned, tmp_path / "out"))
    first, second = (
        {
            name: blend(ours[name], theirs[name], a) if a % 1 else (theirs if a else ours)[name]
            for name in ours
        }
        for a in alphas
    )
    for name in ours:
        if "self_attn" not in name:
            assert torch.equal(out[name], ours[name])
        elif "o_proj" in name:
            assert torch.equal(out[name], torch.cat([first[name][:, :8], second[name][:, 8:]], 1))
        else:
            half = len(ours[name]) // 2
            assert torch.equal(out[name], torch.cat([first[name][:half], second[name][half:]]))


def test_whole_numbers_cannot_be_blended(tmp_path) -> None:
    tensors = llama() | {"model.layers.0.mlp.gate_proj.weight": ("I32", (32, 16))}
    base, tuned = pair(tmp_path, tensors)
    with pytest.raises(SelectionError, match=r"gate_proj\.weight' is I32"):
        compose(base, tuned, tmp_path / "out", "0.5*mlp")
    assert not (tmp_path / "out").exists()
    same = {"model.layers.0.mlp.gate_proj.weight": payload("same", "I32", (32, 16), 0)}
    for folder, seed in ((base, 0), (tuned, 1)):
        write(folder, tensors, seed, config=llama_config(), content=same)
    done = compose(base, tuned, tmp_path / "out", "0.5*mlp")
    assert done.alphas["model.layers.0.mlp.gate_proj.weight"] == 0.0


def test_eight_bit_weights_cannot_be_blended_but_copied(tmp_path) -> None:
    tensors = llama(dtype="F8_E4M3")
    base, tuned = pair(tmp_path, tensors)
    with pytest.raises(SelectionError, match="scales"):
        compose(base, tuned, tmp_path / "out", "0.5*all")
    compose(base, tuned, tmp_path / "out", "taia")
    assert content(tmp_path / "out")["lm_head.weight"] == content(tuned)["lm_head.weight"]
