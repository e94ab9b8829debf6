"""An export, from start to end: written aside, checked, and only then put in its place."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from taia.checkpoint.index import ADAPTER_CONFIG
from taia.checkpoint.output.manifest import MANIFEST
from taia.checkpoint.output.staging import check_output, staged
from taia.errors import InputError, RunError
from taia.export.job import Job
from taia.export.result import Check, Export, Target
from taia.export.source import read_source

#: Of these an output that may be overwritten must hold one.
MARKS: Final = (MANIFEST, "config.json", ADAPTER_CONFIG, "adapter.gguf", "mergekit.yml")
_MODELS: Final = ("torch", "transformers", "peft")
#: Target → what writing and checking import.
_NEEDED: Final = {
    "transformers": _MODELS,
    "vllm": _MODELS,
    "gguf": (*_MODELS, "gguf"),
    "ollama": (*_MODELS, "gguf", "jinja2"),
    "mergekit": ("torch", "yaml"),
}


def export(
    source: str | Path,
    target: Target,
    output: str | Path,
    *,
    base: str | None = None,
    base_gguf: str | Path | None = None,
    merge: bool = False,
    verify: bool = True,
    overwrite: bool = False,
    declare: Mapping[str, str] | None = None,
    say: Callable[[str], None] | None = None,
) -> Export:
    """Writes a model or adapter for another program, and checks it there.

    Args:
        source: A folder or hub name: a PEFT adapter or a whole checkpoint, composed or not.
        target: The program.
        output: The folder to write.
        base: The adapter's base model; by default what the adapter says.
        base_gguf: The base as a GGUF file: for Ollama to build on, and to check adapters with.
        merge: Make an adapter a whole checkpoint.
        verify: Whether to load the output and compare it with the source.
        overwrite: Replace an export or model that is there already.
        declare: Pattern of a tensor's name → component, for names that anatomy does not know.
        say: Told what is being done.

    Raises:
        InputError: If what was given cannot be exported so (see :mod:`taia.errors` for its kinds).
        RunError: If the output cannot be written, or differs from the source; then nothing is left.
    """
    if target not in _NEEDED:
        raise InputError(f"There is no target {target!r}.", f"Use one of {', '.join(_NEEDED)}.")
    say = say or (lambda _: None)
    read = read_source(source, base)
    if merge and read.adapter is None:
        raise InputError(
            f"{read.place.given} is a whole checkpoint: there is no adapter to merge.",
            "Leave --merge away, or give the adapter.",
        )
    _check_installed(target)
    gguf = None if base_gguf is None else _gguf(Path(base_gguf), target)
    inputs = [path for path in (read.folder, gguf) if path is not None]
    if read.adapter is not None and _needs_base(target, merge or verify):
        inputs.append(read.base.path)
    output = check_output(Path(output), inputs, overwrite, MARKS)
    job = Job(read, output, merge, gguf, declare)
    module = import_module(f"taia.export.to_{target}")
    with staged(output, overwrite, MARKS) as folder:
        say(f"Writing for {target}")
        written = module.write(job, folder)
        checks: tuple[Check, ...] = ()
        if verify:
            say("Loading and comparing")
            checks = module.verify(job, folder)
        _must_pass(checks)
        found = (path for path in folder.rglob("*") if path.is_file())
        files = tuple(sorted(str(path.relative_to(folder)) for path in found))
    use = written.use and written.use.replace("{output}", shlex.quote(str(output)))
    return Export(target, output, files, checks, written.notes, use)


def _needs_base(target: str, loads: bool) -> bool:
    """Whether an adapter's base is read."""
    return target != "mergekit" and (loads or target != "transformers")


def _must_pass(checks: tuple[Check, ...]) -> None:
    for check in checks:
        if not check.passed:
            raise RunError(
                f"The output is not the source, and nothing was left of it. {check.said}",
                "If no input has changed since it was made, please report this as taia's error.",
            )


def _check_installed(target: str) -> None:
    for name in _NEEDED[target]:
        if find_spec(name) is None:
            raise InputError(
                f"Exports --to {target} need {name}, which is not installed.",
                'Install it: pip install "taia[train]".',
            )


def _gguf(file: Path, target: str) -> Path:
    if target not in ("gguf", "ollama"):
        raise InputError(f"--base-gguf is of no use --to {target}.", "Leave it away.")
    file = file.expanduser()
    try:
        with file.open("rb") as stream:
            magic = stream.read(4)
    except OSError as error:
        raise InputError(
            f"{file} cannot be read: {error.strerror or error}.", "Check the path."
        ) from error
    if magic != b"GGUF":
        raise InputError(f"{file} is not a GGUF file.", "Give the base model as GGUF.")
    return file.resolve()
