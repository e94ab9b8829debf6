"""An export, from start to end: written aside, checked, and only then put in its place."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import get_args

from taia.checkpoint.locate import home_written_out, is_there
from taia.checkpoint.output.destination import check_output
from taia.checkpoint.output.staging import staged
from taia.checkpoint.reading import opened
from taia.errors import InputError, RunError
from taia.export.job import MARKS, SCRATCH, TARGETS, Check, Export, Job, Outtype, TargetName
from taia.export.source import read_source
from taia.packages import needing, require_packages


@needing("export")
def export(
    source: str | Path,
    target: TargetName,
    output: str | Path,
    *,
    base: str | None = None,
    base_gguf: str | Path | None = None,
    outtype: Outtype | None = None,
    merge: bool = False,
    declare: Mapping[str, str] | None = None,
    verify: bool = True,
    overwrite: bool = False,
    say: Callable[[str], None] | None = None,
) -> Export:
    """Writes a model or adapter for another program, and checks it there.

    Args:
        source: A folder or hub name: a PEFT adapter or a whole checkpoint, composed or not.
        target: The program.
        output: The folder to write.
        base: The adapter's base model; by default what the adapter says.
        base_gguf: The base as a GGUF file: for Ollama to build on, and to check adapters with.
        outtype: A whole model's dtype in GGUF: auto, f32, f16, bf16 or q8_0.
        merge: Make an adapter a whole checkpoint.
        declare: Pattern of a tensor's name → component, for names that anatomy does not know.
        verify: Whether to load the output and compare it with the source.
        overwrite: Replace an export or model that is there already.
        say: Told what is being done.

    Raises:
        InputError: If what was given cannot be exported so (see :mod:`taia.errors` for its kinds).
        RunError: If the output cannot be written, or differs from the source; then nothing is left.
    """
    if target not in TARGETS:
        raise InputError(f"There is no target {target!r}.", f"Use one of {', '.join(TARGETS)}.")
    say = say or (lambda _: None)
    require_packages("export", *TARGETS[target].needs)  # before a hub name is fetched
    read = read_source(source, base)
    gguf = None if base_gguf is None else _gguf(Path(base_gguf))
    job = Job(read, Path(output), merge, gguf, declare, outtype or "auto")
    _check_options(job, target, outtype, verify)
    inputs = [path for path in (read.folder, gguf, read.base_at_hand) if path is not None]
    notes: tuple[str, ...] = ()
    if read.adapter is not None and (TARGETS[target].reads_base or merge or verify):
        inputs.append(read.base.path)
        notes = read.doubts
    job = replace(job, output=check_output(Path(output), inputs, overwrite, MARKS))
    module = import_module(f"taia.export.to_{target}")
    with staged(job.output, overwrite, MARKS) as folder:
        say(f"Writing for {target}")
        written = module.write(job, folder)
        checks: tuple[Check, ...] = ()
        if verify:
            say("Loading and comparing")
            checks = module.verify(job, folder)
        _must_pass(checks)
        shutil.rmtree(folder / SCRATCH, ignore_errors=True)
        found = (path for path in folder.rglob("*") if path.is_file())
        files = tuple(sorted(str(path.relative_to(folder)) for path in found))
    use = written.use and written.use.replace("{output}", shlex.quote(str(job.output)))
    return Export(target, job.output, files, checks, (*notes, *written.notes), use)


def _check_options(job: Job, target: TargetName, outtype: Outtype | None, verify: bool) -> None:
    """Refuses options that would do nothing."""
    given = job.source.place.given
    if job.source.given_base is not None and target != "mergekit":
        if job.source.adapter is None:
            raise InputError(
                f"{given} is a whole checkpoint: --base is of no use to it.",
                "Leave it away, or give an adapter.",
            )
        if not (TARGETS[target].reads_base or job.merge or verify):
            raise InputError(
                f"--base is of no use --to {target} unless something is checked or merged.",
                "Leave it away, or leave --no-verify away.",
            )
    if job.declare and not job.merge:
        raise InputError(
            "--declare is of no use to an export, but for --merge.",
            "Leave it away: what is exported has been composed already.",
        )
    if job.merge and job.source.adapter is None:
        raise InputError(
            f"{given} is a whole checkpoint: there is no adapter to merge.",
            "Leave --merge away, or give the adapter.",
        )
    if job.base_gguf is not None and (job.whole or not TARGETS[target].gguf):
        what = f"--to {target}" + (" of a whole model" if job.whole else "")
        raise InputError(f"--base-gguf is of no use {what}.", "Leave it away.")
    if job.outtype not in get_args(Outtype):
        raise InputError(
            f"There is no outtype {outtype!r}.", f"Use one of {', '.join(get_args(Outtype))}."
        )
    if outtype is not None and (not job.whole or not TARGETS[target].gguf):
        what = f"--to {target}" + ("" if job.whole else " of an adapter, which is float32")
        raise InputError(f"--outtype is of no use {what}.", "Leave it away, or add --merge.")


def _must_pass(checks: tuple[Check, ...]) -> None:
    for check in checks:
        if not check.passed:
            raise RunError(
                f"The output is not the source, and nothing was left of it. {check.said}",
                "If no input has changed since it was made, please report this as taia's error.",
            )


def _gguf(file: Path) -> Path:
    file = home_written_out(file)
    if is_there(file):
        file = file.resolve()  # whoever names a file may name a link to it
    with opened(file) as stream:
        if stream.read(4) != b"GGUF":
            raise InputError(f"{file} is not a GGUF file.", "Give the base model as GGUF.")
    return file
