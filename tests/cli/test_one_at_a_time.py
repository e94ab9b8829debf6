"""Two commands on one output: one goes on, the other ends at once and says which one runs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import forks
import tiny_models
import tiny_tasks
from cli_runner import inside
from outputs import held

pytestmark = pytest.mark.skipif(os.name != "posix", reason="file locks of Unix")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    tiny_models.save_llama(folder / "base")
    tiny_models.lora(tiny_models.llama()).save_pretrained(folder / "tuned")
    tiny_tasks.write(folder / "tasks")
    rows = [{"instruction": "a" * (i % 5 + 1), "output": f"no {i}"} for i in range(8)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


COMMANDS = {
    "compose": "compose {base} {tuned} --output {out}",
    "compose, overwriting": "compose {base} {tuned} --output {out} --overwrite",
    "merge": "compose {base} {tuned} --merge --output {out}",
    "train": "train {base} --data {rows} --output {out}",
    "train, overwriting": "train {base} --data {rows} --output {out} --overwrite",
    "resume": "train {base} --data {rows} --output {out} --resume",
    "eval": "eval {base} {tuned} --include-path {tasks} --tasks tiny_choice --output {out}",
    "demo": "demo --model {base} --output {out}",
    "export": "export {tuned} --to transformers --base {base} --output {out}",
    "report": "report {tasks} --output {out}",
    "vllm": "serve {base} {tuned} --engine vllm --print --output {out}",
}


@pytest.fixture
def running(tmp_path: Path) -> Iterator[forks.Process]:
    """A process that writes the output."""
    with held(tmp_path / "out") as process:
        yield process


@pytest.mark.parametrize("command", COMMANDS)
def test_an_output_that_is_being_written_is_refused(
    place: Path, tmp_path: Path, running: forks.Process, command: str
) -> None:
    if command == "eval":
        pytest.importorskip("lm_eval", reason="needs taia[eval]")
    paths = {name: place / name for name in ("base", "tuned", "tasks")}
    text = COMMANDS[command].format(**paths, rows=place / "rows.jsonl", out=tmp_path / "out")
    ended = inside(*text.split(), code=2)
    assert ended.stderr.splitlines()[-2:] == [
        f"taia: Process {running.pid} is writing {tmp_path / 'out'}.",
        "      Wait until it ends, or choose another --output.",
    ]
    assert [path.name for path in tmp_path.iterdir()] == [".out.taia-lock"]


@pytest.mark.parametrize(
    "spelling", ["out/", "link/out", "link/../out", "link/./out/.", "out/deeper/still"]
)
def test_the_same_output_is_refused_however_it_is_spelled(
    place: Path,
    tmp_path: Path,
    running: forks.Process,
    spelling: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    if spelling == "link/../out":
        spelling = f"link/../{tmp_path.name}/out"
    before = sorted(tmp_path.iterdir())
    ended = inside("compose", f"{place / 'base'}", f"{place / 'tuned'}", "-o", spelling, code=2)
    assert f"Process {running.pid} is writing {tmp_path / 'out'}." in ended.stderr
    assert sorted(tmp_path.iterdir()) == before
    running.kill()
    running.communicate()  # the control: what a killed process leaves is in nobody's way
    inside("compose", f"{place / 'base'}", f"{place / 'tuned'}", "-o", spelling, code=0)
    assert (tmp_path / spelling / "adapter_config.json").is_file()


def race(*command: str) -> list[tuple[int, str]]:
    """Exit code and stderr of two processes that are started together."""
    started = [
        forks.start(forks.TAIA, *command, modules=forks.LIGHT, stderr=forks.PIPE) for _ in range(2)
    ]
    said = [process.communicate()[1] for process in started]
    return [(process.returncode, text) for process, text in zip(started, said, strict=True)]


@pytest.mark.parametrize("attempt", range(3))
def test_of_two_real_ones_one_is_done_and_the_other_refused(
    place: Path, tmp_path: Path, attempt: int
) -> None:
    output = tmp_path / "out"
    (good, _), (bad, why) = sorted(
        race("compose", str(place / "base"), str(place / "base"), "-o", str(output))
    )
    assert (good, bad) == (0, 2)
    assert "is writing" in why or "exists already" in why or "in the meantime" in why
    assert "Traceback" not in why
    assert (output / "config.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


SECOND = """
import sys
from pathlib import Path
from taia.errors import DestinationError
from taia.training.recipe import Recipe
from taia.training.run import train
recipe = Recipe(model_name_or_path=sys.argv[1], data=(sys.argv[2],), output_dir=sys.argv[3])
for options in ({}, {"overwrite": True}, {"resume": True}):
    try:
        train(recipe, **options)
    except DestinationError as error:
        print(error.problem)
"""


def test_a_run_that_trains_is_neither_started_again_nor_resumed(
    place: Path, tmp_path: Path
) -> None:
    from taia.training.recipe import Recipe
    from taia.training.run import train

    output, said = tmp_path / "out", []
    given = (str(place / "base"), str(place / "rows.jsonl"), str(output))

    def watch(work: str, done: int, total: int | None) -> None:
        if work.startswith("Training") and done == 1:
            said.append(forks.run(SECOND, *given).stdout)

    recipe = Recipe(
        model_name_or_path=given[0],
        data=(given[1],),
        output_dir=given[2],
        max_steps=2,
        max_length=32,
    )
    done = train(recipe, watch=watch)
    refused = f"Process {os.getpid()} is writing {output}.\n"
    assert said == [refused * 3]
    assert done.record.trained
    assert (output / "adapter_config.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
