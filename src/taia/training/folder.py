"""The output folder of a training run: claimed at the start, filled in the end.

While a run goes on, the folder holds ``taia_run.json`` (what the run is) and checkpoints to resume
from; nothing that loads as a model. When it is done, the model's files are written into a hidden
folder inside and moved up, its config last, and ``taia_run.json`` goes.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final

from taia.checkpoint.folders import ADAPTER_CONFIG
from taia.checkpoint.output import inplace
from taia.checkpoint.output.destination import check_output, check_writable, resolved, translated
from taia.checkpoint.output.lock import check_free
from taia.checkpoint.output.manifest import MANIFEST, write_json
from taia.checkpoint.reading import read_json
from taia.errors import DestinationError, InputError
from taia.training.recipe import Recipe

#: What marks a folder as an unfinished run's.
RUN: Final = "taia_run.json"

_LAST: Final = ("config.json", ADAPTER_CONFIG)
#: Keys that do not change what is learnt, so that a resumed run may change them.
_FREE: Final = frozenset(
    {"output_dir", "logging_steps", "save_total_limit", "report_to", "run_name"}
)


def check(output: Path, inputs: list[Path], *, overwrite: bool) -> Path:
    """Say beforehand whether a run may have a folder.

    Args:
        output: Where.
        inputs: Folders and files that are read.
        overwrite: Whether an earlier run's folder or a model may go.

    Returns:
        Its path, absolute.

    Raises:
        DestinationError: If something is there that may not go.
        OutputError: If nothing can be written there.
    """
    output = resolved(output)
    if (output / RUN).is_file() and not overwrite:
        if _newest(output) is not None:
            raise DestinationError(
                f"{output} holds a run that was not finished.",
                "Go on with it (--resume), or start again (--overwrite).",
            )
        overwrite = {path.name for path in inplace.contents(output)} == {RUN}  # nothing came of it
    output = check_output(output, inputs, overwrite, (RUN, MANIFEST, *_LAST))
    check_writable(output)
    return output


def claim(output: Path, recipe: Recipe, data: Mapping[str, str]) -> None:
    """Make a checked output folder a new run's; what is there goes.

    Args:
        output: Where.
        recipe: What the run is.
        data: Source → SHA-256 of what it was.

    Raises:
        OutputError: If it cannot be written.
    """
    with translated(output):
        if output.exists():
            inplace.clear(output)
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / RUN, {"recipe": asdict(recipe), "data": dict(data)})


def unfinished(output: Path) -> tuple[Recipe, dict[str, str], Path | None]:
    """A run to go on with.

    Args:
        output: Its folder.

    Returns:
        Its recipe, its data's hashes, and its newest checkpoint; ``None`` where it has none yet.

    Raises:
        InputError: If there is none, or it is finished.
        DestinationError: If another process goes on with it.
        OutputError: If nothing can be written there.
    """
    from taia.training.reading import read_recipe

    output = resolved(output)
    check_free(output)
    check_writable(output)
    if not (output / RUN).is_file():
        finished = any((output / name).is_file() for name in _LAST)
        what = "a finished model" if finished else "no run to resume"
        raise InputError(
            f"{output} holds {what}.", "Leave --resume away, or give another --output."
        )
    record = read_json(output / RUN)
    recipe = read_recipe(record.get("recipe") or {})
    return recipe, dict(record.get("data") or {}), _newest(output)


def _newest(output: Path) -> Path | None:
    """The newest checkpoint that is whole: the trainer's state is written last."""
    found = [p for p in output.glob("checkpoint-*") if (p / "trainer_state.json").is_file()]
    return max(found, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def check_same(before: Recipe, now: Recipe, old: Mapping[str, str], new: Mapping[str, str]) -> None:
    """Refuses to go on with a run under another recipe or on other data.

    Raises:
        InputError: Naming the first key or file that differs.
    """
    then, this = asdict(before), asdict(now)
    for key in then.keys() - _FREE:
        if then[key] != this[key]:
            raise InputError(
                f"The run began with {key} {then[key]!r}, and is resumed with {this[key]!r}.",
                "Resume it as it began (--resume needs only --output), or start another.",
            )
    for source, found in new.items():
        if old.get(source) != found:
            raise InputError(
                f"{source} is not what it was when the run began.",
                "Restore it, or start another run.",
            )


@contextmanager
def filling(output: Path, step: int, moves: bool) -> Iterator[Path]:
    """A hidden folder to write the finished model in; its files move up when the block ends.

    Args:
        output: The run's folder.
        step: The last; the checkpoint it left is the finished model and goes.
        moves: Whether this process makes the folder and moves the files. One of several does.

    Raises:
        OutputError: If the disk is full or fails.
    """
    with translated(output):
        folder = output / ".finished"
        if not moves:
            yield folder
            return
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
            names = sorted((p.name for p in folder.iterdir()), key=lambda n: (n in _LAST, n))
            for name in names:
                (folder / name).replace(output / name)
            (output / RUN).unlink(missing_ok=True)
            shutil.rmtree(output / f"checkpoint-{step}", ignore_errors=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
