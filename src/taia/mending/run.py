"""``taia mend``: from two models and what was to be learnt and kept to one choice."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from taia.checkpoint.folders import holds_adapter
from taia.checkpoint.inspection import look_ahead
from taia.checkpoint.kinship import doubts, warn_of_doubts
from taia.checkpoint.locate import Located
from taia.checkpoint.output.destination import nearest
from taia.checkpoint.output.manifest import MANIFEST, versions
from taia.checkpoint.output.staging import claimed, write_file
from taia.checkpoint.reading import read_json
from taia.errors import InputError, OutputError, StoppedError
from taia.evaluation.settings import Watch
from taia.loading.devices import device_called
from taia.loading.models import check_live, dtype_called
from taia.mending.budget import Clock, seconds_of, usual
from taia.mending.journal import CHOICE, KEEP_FILE, MEASURED, MEND_FILE, Journal, check_folder
from taia.mending.split import split
from taia.packages import needing
from taia.text import in_bytes

if TYPE_CHECKING:
    from taia.mending.result import Mended
    from taia.mending.sources import GivenData

#: What must not get worse unless told otherwise: a group of tasks that ships with taia.
KEEP: Final = "mend"
_LIBRARIES: Final = ("torch", "transformers", "peft", "lm_eval")
#: What the small files of a search may take.
_SLACK: Final = 20_000_000


@needing("eval", "lm_eval", "torch", "transformers", "datasets", "jinja2")
def mend(
    base: str | Path,
    tuned: str | Path,
    *,
    learn: Sequence[str | Path] | str | Path,
    keep: Sequence[str | Path] | str | Path = KEEP,
    output: str | Path,
    budget: str | None = None,
    seed: int = 0,
    dtype: str | None = None,
    device: str | None = None,
    declare: Mapping[str, str] | None = None,
    include_path: Sequence[str | Path] = (),
    overwrite: bool = False,
    command: str | None = None,
    watch: Watch | None = None,
    on_doubt: Callable[[str], None] | None = None,
) -> Mended:
    """Is a fine-tune worse, can it be mended without retraining, and what should be kept?

    Base and tuned are compared item by item on what must not get worse. If there is harm, parts of
    the update are searched for one that keeps what was learnt and changes general answers the
    least; the choice is made on items that the search has not seen, and measured on others again.
    docs/mend.md has every formula.

    Warns (:class:`~taia.checkpoint.kinship.DoubtfulPairWarning`) where records say that the tuned
    model was made from another base.

    Args:
        base: The model before fine-tuning: a folder or hub name.
        tuned: The model after it, the same way; or an adapter.
        learn: What the fine-tune was for: rows in any training format, or tasks.
        keep: What must not get worse: rows, prompts without answers, or tasks; by default a
            general set that ships with taia.
        output: The folder: the choice, ``mend.json``, and every measurement, so that the same call
            goes on where an earlier one was stopped.
        budget: How long it may take: ``90s``, ``5m``, ``1h``; by default ten minutes, or a quarter
            of what training took, where that is on record, if that is less and at least two.
        seed: Of the parts, of draws, and of the search.
        dtype: ``float32``, ``bfloat16`` or ``float16``; by default float32 on a CPU, and what the
            checkpoint is stored in elsewhere.
        device: Where to compute; by default a GPU if there is one.
        declare: Pattern of a tensor's name → component, for names that anatomy does not know.
        include_path: Folders of task files of your own.
        overwrite: Whether another search's results at ``output`` go.
        command: What was typed, for the record.
        watch: Told how far the work is.
        on_doubt: Told, in place of a warning, what speaks against the pair.

    Returns:
        What was found; ``mend.json`` holds the same.

    Raises:
        InputError: If something given cannot be used.
        DestinationError: If ``output`` holds another search, or another process writes there.
        DownloadError: If a model or data cannot be fetched.
        OutputError: If something cannot be written.
        StoppedError: On Ctrl-C; what was measured is kept.
        RunError: If a model fails.
    """
    from taia.mending.sources import read_given

    watch = watch or (lambda *_: None)
    started, seconds = time.monotonic(), None if budget is None else seconds_of(budget)
    folders = tuple(Path(folder) for folder in include_path)
    learnt = read_given("--learn", _texts(learn), prompts=False, folders=folders)
    kept = read_given("--keep", _texts(keep), prompts=True, folders=folders)
    for flag, given in (("--learn", learnt), ("--keep", kept)):
        _check_parts(flag, given, seed)
    here, there = look_ahead(base, tuned, [], declare)
    check_live(here, there)
    clock = Clock(usual(_trained(there)) if seconds is None else seconds, started)
    if on_doubt is None:
        warn_of_doubts(base, tuned)
    else:
        for doubt in doubts(base, tuned):
            on_doubt(doubt)
    folder = check_folder(Path(output), [here.path, there.path], overwrite)
    _check_space(folder, there)
    if dtype is not None:
        dtype_called(dtype)
    device = device_called(device)
    watch("Loading libraries", 0, None)
    from taia.evaluation.harness.drive import quiet_harness
    from taia.evaluation.scores.identity import weights
    from taia.mending.setup import Setting, set_up

    facts = {
        "learn": [[file.name, file.sha256] for file in learnt.files] + [*learnt.tasks],
        "keep": [[file.name, file.sha256] for file in kept.files] + [*kept.tasks],
        "budget": clock.budget,
        "seed": seed,
        "dtype": dtype,
        "declare": dict(declare or {}),
    }
    typed = command or "taia.mend"
    setting = Setting(here, there, learnt, kept, seed, dtype, device, declare or {}, folders, typed)
    with claimed(folder), quiet_harness():
        try:
            watch("Hashing the weights", 0, None)
            known = {"base": weights(here), "tuned": weights(there), **facts}
            journal = Journal(folder, known, overwrite=overwrite)
            flow = set_up(setting, journal, clock, watch)
            told = {
                **facts,
                "base": here.given,
                "tuned": there.given,
                "command": typed,
                "versions": versions(*_LIBRARIES),
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            found = flow.run(folder, told)
            return _finished(found, (here, there), declare, watch)
        except (KeyboardInterrupt, StoppedError):
            kept_is = f"what was measured is kept in {folder}"
            there_is = (folder / MEASURED).is_file()
            raise StoppedError(
                f"Stopped; {kept_is if there_is else 'nothing was measured yet'}.",
                "Give the same command again to go on.",
            ) from None


def _finished(
    found: Mended,
    places: tuple[Located, Located],
    declare: Mapping[str, str] | None,
    watch: Watch,
) -> Mended:
    """Write the choice and the result."""
    from dataclasses import replace

    from taia.checkpoint.compose import compose

    if found.choice is not None:
        watch("Writing the choice", 0, None)
        here, there = places
        done = compose(
            here, there, found.output / CHOICE, found.choice.selection,
            overwrite=True, declare=declare, **_method(found.choice.method, there),
        )  # fmt: skip
        write_file(found.output / KEEP_FILE, f"{found.choice.selection}\n")
        found = replace(found, written=done.output, notes=(*found.notes, *done.notes))
    write_file(found.output / MEND_FILE, json.dumps(found.to_json(), indent=1) + "\n")
    return found


def _method(method: str | None, tuned: Located) -> dict[str, Any]:
    """What else `compose` is told: a method; an adapter that it makes full-rank is merged."""
    if method is None:
        return {}
    from taia.methods import Applied

    shape = Applied.parse(method).method
    return {"method": method, "merge": holds_adapter(tuned.path) and shape.entries is not None}


def _texts(given: Sequence[str | Path] | str | Path) -> list[str]:
    """One or several, as texts.

    Raises:
        InputError: If there is none.
    """
    found = [str(given)] if isinstance(given, str | Path) else [str(one) for one in given]
    if not found:
        raise InputError("Nothing is given to learn or to keep.", "Give a file of rows, or a task.")
    return found


def _check_parts(flag: str, given: GivenData, seed: int) -> None:
    """Refuse too few rows before libraries are loaded; tasks have items of their own.

    Raises:
        DataError: If a part would be empty.
    """
    from taia.mending.sources import said_key

    if given.files and not given.tasks:
        said = [one for file in given.files for one in file.said]
        split(said, said_key, flag, seed)


def _trained(tuned: Located) -> float | None:
    """Seconds that training took, where that is on record."""
    path = tuned.path / MANIFEST
    record = read_json(path) if path.is_file() else {}
    seconds = record.get("seconds") if record.get("kind") == "training" else None
    return float(seconds) if isinstance(seconds, int | float) else None


def _check_space(folder: Path, tuned: Located) -> None:
    """Refuse a disk that would not hold the choice.

    Raises:
        OutputError: If it would not.
    """
    files = [tuned.path] if tuned.path.is_file() else [*tuned.path.glob("*.safetensors")]
    needed = sum(file.stat().st_size for file in files) + _SLACK
    free = shutil.disk_usage(nearest(folder)).free
    if free < needed:
        raise OutputError(
            f"{folder} needs up to {in_bytes(needed)}; the disk has {in_bytes(free)} free.",
            "Free some space, or choose an --output on another disk.",
        )
