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

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forks"),
]

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


#: What is composed, and at how many moments it is killed. What needs torch comes last: until then
#: the forks are small.
JOBS: dict[str, tuple[str, dict[str, Any], int]] = {
    "checkpoint": ("tuned", {}, 40),
    "checkpoint over another": ("tuned", {"overwrite": True}, 40),
    # At all of them: a single one lies between its two renames.
    "checkpoint over another, without swapping": ("tuned", {"overwrite": True}, 1000),
    "adapter": ("adapter", {}, 20),
    "adapter over another": ("adapter", {"overwrite": True}, 20),
    "merge": ("adapter", {"merge": True}, 20),
    "merge over another": ("adapter", {"merge": True, "overwrite": True}, 20),
}


@pytest.fixture(scope="module")
def jobs(
    inputs: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """Every job, with what became of it."""
    made = {
        name: {
            "root": str(tmp_path_factory.mktemp("job")),
            "moments": moments,
            "old": str(inputs["old"]) if "overwrite" in options else None,
            "swap": "without" not in name,
            "arguments": {"base": str(inputs["base"]), "tuned": str(inputs[tuned]), **options},
        }
        for name, (tuned, options, moments) in JOBS.items()
    }
    script = [sys.executable, killed_run.__file__, json.dumps(list(made.values()))]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = zip(made.items(), json.loads(done.stdout), strict=True)
    return {name: {**job, **result} for (name, job), result in told}


@pytest.mark.parametrize("name", JOBS)
def test_killed_at_any_moment_there_is_the_old_or_the_new_or_nothing(
    inputs: Mapping[str, Path], jobs: dict[str, dict[str, Any]], name: str
) -> None:
    job = jobs[name]
    root, there, swap = Path(job["root"]), job["old"] is not None, job["swap"]
    assert job["events"] >= len(job["ended"]) >= 20
    assert set(job["ended"].values()) == {signal.SIGKILL}

    old, new = tree(inputs["old"]), _without_place(tree(root / "whole" / "out"))
    assert new != old
    seen = set()
    for moment in job["ended"]:
        folder = root / moment
        output = folder / "out"
        for path in folder.iterdir():
            assert path == output or path.name.startswith((".out.taia-tmp-", ".out.taia-lock"))
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

    for moment in list(job["ended"])[::4]:
        folder = root / moment
        compose(**{**job["arguments"], "overwrite": True}, output=folder / "out")
        assert _without_place(tree(folder / "out")) == new
        assert [path.name for path in folder.iterdir()] == ["out"]


def _without_place(files: dict[str, bytes]) -> dict[str, bytes]:
    """Without the versions: they name torch where it happens to be loaded."""
    record = json.loads(files["taia_config.json"])
    del record["versions"]
    return {**files, "taia_config.json": json.dumps(record).encode()}
