"""Base and tuned that are not what they are given as are noted, or refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import hub_cache
from taia.checkpoint.compose import compose
from taia.checkpoint.kinship import doubts as doubts_ahead
from taia.errors import MismatchError
from tiny_files import adapter, llama, llama_config, write


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path]:
    """``Model`` and ``Model-Instruct``, of the same shapes."""
    found = [
        write(tmp_path / name, llama(), seed, config=llama_config())
        for seed, name in enumerate(("Model", "Model-Instruct"))
    ]
    return found[0], found[1]


def lora(folder: Path, base: object) -> Path:
    made = adapter(folder)
    config = json.loads((made / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = base
    (made / "adapter_config.json").write_text(json.dumps(config))
    return made


def doubts(base: Path, tuned: Path, **options: object) -> list[str]:
    """The notes of the kind; with ``strict`` there is an error exactly where there is one."""
    notes = compose(base, tuned, None, dry_run=True, **options).notes
    found = [n for n in notes if "same model" in n or "swapped" in n or "says that" in n]
    if found:
        with pytest.raises(MismatchError) as caught:
            compose(base, tuned, None, dry_run=True, strict=True, **options)
        assert caught.value.problem == found[0]
    else:
        compose(base, tuned, None, dry_run=True, strict=True, **options)
    return found


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize(
    "recorded", ["org/Model-Instruct", "/gone/Model-Instruct", "Model-Instruct"]
)
def test_an_adapter_of_another_base(models, tmp_path, recorded, merge) -> None:
    base, instruct = models
    made = lora(tmp_path / "lora", recorded)
    (note,) = doubts(base, made, merge=merge)
    assert recorded in note
    assert str(base) in note
    assert doubts(instruct, made, merge=merge) == []


def test_an_adapter_whose_base_is_at_hand_is_compared(models, tmp_path) -> None:
    base, instruct = models
    assert doubts(base, lora(tmp_path / "a", str(base))) == []
    assert len(doubts(base, lora(tmp_path / "b", str(instruct)))) == 1
    copy = shutil.copytree(base, tmp_path / "elsewhere" / "renamed")
    assert doubts(copy, lora(tmp_path / "c", str(base))) == []
    other = write(tmp_path / "elsewhere" / "Model", llama(), 5, config=llama_config())
    assert len(doubts(other, lora(tmp_path / "d", str(base)))) == 1  # called alike, and another


@pytest.mark.parametrize("recorded", ["\0", "\ud800", "~nobody/x", "/" * 5000, "a" * 5000])
def test_a_recorded_base_that_is_no_path_is_another(models, tmp_path, recorded) -> None:
    assert len(doubts(models[0], lora(tmp_path / "lora", recorded))) == 1


@pytest.mark.parametrize("recorded", [None, "", 3, ["x"]])
def test_an_adapter_that_says_nothing_of_its_base(models, tmp_path, recorded) -> None:
    assert doubts(models[0], lora(tmp_path / "lora", recorded)) == []


def test_the_hubs_folder_is_called_like_the_model(tmp_path) -> None:
    place = tmp_path / "models--org--Model" / "snapshots" / "0123"
    base = write(place, llama(), config=llama_config())
    assert doubts(base, lora(tmp_path / "a", "org/Model")) == []
    assert len(doubts(base, lora(tmp_path / "b", "org/Model-Instruct"))) == 1


def test_equal_models_are_said_to_be_equal(models, tmp_path) -> None:
    base, _ = models
    assert "same model" in doubts(base, base)[0]
    names = list(llama())
    resharded = write(
        tmp_path / "again", llama(), 0, config=llama_config(), shards=[names[:5], names[5:]]
    )
    (note,) = doubts(base, resharded)
    assert str(base) in note
    assert str(resharded) in note


def test_models_that_differ_in_one_tensor_are_not_equal(models, tmp_path) -> None:
    base, _ = models
    name = "model.layers.1.mlp.up_proj.weight"
    other = write(tmp_path / "o", llama(), config=llama_config(), content={name: b"\1" * 1024})
    assert doubts(base, other) == []


def test_swapped_by_the_record(models, tmp_path) -> None:
    base, tuned = models
    compose(base, tuned, tmp_path / "made", "taia")
    assert doubts(base, tmp_path / "made") == []
    (note,) = doubts(tmp_path / "made", base)
    assert "swapped" in note
    assert str(base) in note
    assert str(tmp_path / "made") in note
    # Its base has another place now: it is known by its bytes.
    moved = tmp_path / "moved"
    base.rename(moved)
    assert "swapped" in doubts(tmp_path / "made", moved)[0]
    assert doubts(moved, tmp_path / "made") == []
    # The record of what was made from this names another base.
    (note,) = doubts(tuned, tmp_path / "made")
    assert str(base) in note
    assert str(tuned) in note


@pytest.mark.parametrize("merge", [None, False, True])
def test_strict_is_on_record(models, tmp_path, merge) -> None:
    base, tuned = models
    if merge is not None:
        tuned = lora(tmp_path / "lora", str(base))
    compose(base, tuned, tmp_path / "out", merge=bool(merge), strict=True)
    record = json.loads((tmp_path / "out" / "taia_config.json").read_text())
    assert record["settings"]["strict"] is True
    assert " --strict " in (tmp_path / "out" / "README.md").read_text()
    compose(base, tuned, tmp_path / "other", merge=bool(merge))
    record = json.loads((tmp_path / "other" / "taia_config.json").read_text())
    assert "strict" not in record["settings"]
    assert "--strict" not in (tmp_path / "other" / "README.md").read_text()


@pytest.fixture
def hub(models, tmp_path, monkeypatch) -> None:
    """A cache in which ``org/Model`` has a ``main`` and a ``v1`` of other weights."""
    from huggingface_hub import constants

    main, v1 = models
    hub_cache.save(tmp_path / "hub", "org/Model", {"main": main, "v1": v1, "refs/pr/1": v1})
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.mark.parametrize(
    ("revision", "base", "fits"),
    [
        ("v1", "org/Model@v1", True),
        ("v1", "org/Model", False),
        ("v1", "org/Model@main", False),
        ("v1", f"org/Model@{2:040x}", True),
        (f"{2:040x}", "org/Model@v1", True),
        (f"{2:040x}", "org/Model", False),
        ("main", "org/Model", True),
        (None, "org/Model", True),
        (None, "org/Model@v1", True),  # it does not say
        ("refs/pr/1", "org/Model@refs/pr/1", True),
        ("refs/pr/1", "org/Model@main", False),
        ("../../../../x", "org/Model", False),
        ("\0", "org/Model", False),
        (5, "org/Model", True),
    ],
)
def test_an_adapter_of_another_revision(hub, tmp_path, revision, base, fits) -> None:
    made = lora(tmp_path / "lora", "org/Model")
    file = made / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "revision": revision}))
    found = doubts(base, made)
    assert len(found) == (not fits)
    assert all(f"org/Model@{revision}" in note and base in note for note in found)
    assert list(doubts_ahead(base, made)) == found


def test_a_composed_adapter_is_of_the_commit_that_it_was_composed_on(hub, tmp_path) -> None:
    made = lora(tmp_path / "lora", "org/Model")
    compose("org/Model@v1", made, tmp_path / "out", "attention")
    assert doubts("org/Model@v1", tmp_path / "out") == []
    (note,) = doubts("org/Model", tmp_path / "out")
    assert f"org/Model@{2:040x}" in note
