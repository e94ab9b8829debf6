"""Killed at any moment, nothing that looks valid remains; the processes and the kills are real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import killed_run
from taia.checkpoint.compose import compose
from tiny_files import adapter, llama, llama_config, tree, write

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forks")

NAMES = list(llama())
SHARDS = [NAMES[:5], NAMES[5:12], NAMES[12:]]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder, config = tmp_path_factory.mktemp("inputs"), llama_config()
    made = {
        "base": write(folder / "base", llama(), 1, shards=SHARDS, config=config),
        "tuned": write(folder / "tuned", llama(), 2, config=config),
        "adapter": adapter(folder / "adapter"),
        "old": write(folder / "old", llama(), 3, config=config),
    }
    for name in ("base", "tuned"):
        (made[name] / "tokenizer.json").write_text("{}")
        (made[name] / "generation_config.json").write_text("{}")
    return made


@pytest.mark.parametrize(
    ("tuned", "options", "moments"),
    [
        ("tuned", {"keep": "taia"}, 60),
        ("tuned", {"keep": "taia", "overwrite": True}, 60),
        ("tuned", {"keep": "taia", "overwrite": True, "swap": False}, 60),
        ("adapter", {"keep": "taia"}, 30),
        ("adapter", {"keep": "taia", "overwrite": True}, 30),
        ("adapter", {"keep": "taia", "merge": True}, 30),
        ("adapter", {"keep": "taia", "merge": True, "overwrite": True}, 30),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else str(value),
)
def test_killed_at_any_moment_there_is_the_old_or_the_new_or_nothing(
    inputs: Mapping[str, Path], tmp_path: Path, tuned: str, options: dict[str, Any], moments: int
) -> None:
    options = dict(options)
    swap = options.pop("swap", True)
    there = options.get("overwrite", False)
    arguments = {"base": str(inputs["base"]), "tuned": str(inputs[tuned]), **options}
    job = {
        "root": str(tmp_path),
        "moments": moments,
        "old": str(inputs["old"]) if there else None,
        "swap": swap,
        "arguments": arguments,
    }
    script = [sys.executable, killed_run.__file__, json.dumps(job)]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["events"] >= len(told["ended"]) >= min(moments, 20)
    assert set(told["ended"].values()) == {signal.SIGKILL}

    old, new = tree(inputs["old"]), _without_place(tree(tmp_path / "whole" / "out"))
    assert new != old
    seen = set()
    for moment in told["ended"]:
        folder = tmp_path / moment
        output = folder / "out"
        for path in folder.iterdir():
            assert path == output or path.name.startswith(".out.taia-tmp-"), moment
        if not output.exists():
            seen.add("nothing")
        elif there and tree(output) == old:
            seen.add("old")
        else:
            assert _without_place(tree(output)) == new, moment
            seen.add("new")
    # Moments lie on both sides of the one at which the output appears.
    before = {"nothing"} if not there else {"old"} if swap else {"old", "nothing"}
    assert seen == before | {"new"}

    for moment in told["ended"]:
        folder = tmp_path / moment
        compose(**{**arguments, "overwrite": True}, output=folder / "out")
        assert _without_place(tree(folder / "out")) == new
        assert [path.name for path in folder.iterdir()] == ["out"]


def _without_place(files: dict[str, bytes]) -> dict[str, bytes]:
    """Without the versions: they name torch where it happens to be loaded."""
    record = json.loads(files["taia_config.json"])
    del record["versions"]
    return {**files, "taia_config.json": json.dumps(record).encode()}
