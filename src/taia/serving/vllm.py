"""vLLM with the same modes: one adapter a mode, over one base."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from taia.checkpoint.adapters.read import read_adapter
from taia.checkpoint.compose import compose
from taia.checkpoint.folders import holds_adapter
from taia.checkpoint.locate import Located, locate
from taia.checkpoint.output.destination import check_output
from taia.checkpoint.output.staging import staged
from taia.errors import AdapterError, InputError, RunError
from taia.export.run import export
from taia.export.to_vllm import slots
from taia.selection import Selection

#: The command, beside the adapters that it names; and how a folder of ours is known.
SCRIPT: Final = "vllm.sh"
_NAME: Final = re.compile(r"[\w.-]+")


@dataclass(frozen=True, slots=True)
class Served:
    """What vLLM is to serve.

    Attributes:
        base: The base model.
        plain: Ids of the base itself.
        adapters: Id → the adapter's folder.
        rank: What ``--max-lora-rank`` must be.
    """

    base: Located
    plain: tuple[str, ...]
    adapters: Mapping[str, Path]
    rank: int

    def command(self, flags: Sequence[str] = ()) -> list[str]:
        """The command that serves it.

        Args:
            flags: Further flags for vLLM, which win over ours.
        """
        name = self.base.repo or str(self.base.path.resolve())
        command = ["vllm", "serve", name, "--served-model-name", *self.plain]
        if self.base.repo and self.base.revision:
            command += ["--revision", self.base.revision]
        if self.adapters:
            modules = [f"{mode}={folder}" for mode, folder in self.adapters.items()]
            command += ["--enable-lora", "--max-lora-rank", str(self.rank)]
            # All modes in one batch; by default vLLM would make them take turns.
            command += ["--max-loras", str(len(self.adapters)), "--lora-modules", *modules]
        return [*command, *flags]


def write(
    base: str,
    tuned: str,
    modes: Mapping[str, str],
    output: Path,
    *,
    overwrite: bool = False,
    flags: Sequence[str] = (),
    declare: Mapping[str, str] | None = None,
) -> Served:
    """Write one adapter a mode, and a script that serves them.

    Args:
        base: The base model: a folder or a hub name.
        tuned: The adapter: a folder or a hub name.
        modes: Mode → selection. Modes that keep nothing are the base itself.
        output: The folder to write.
        overwrite: Replace what an earlier call wrote there.
        flags: Further flags for vLLM.
        declare: Pattern of a tensor's name → component, for names that anatomy does not know.

    Raises:
        AdapterError: If it is no adapter, or vLLM cannot carry a part of it that a mode keeps.
        DestinationError: If the output may not be written.
        InputError: If a mode's name is none that vLLM takes.
    """
    places = locate(base), locate(tuned)
    _check(places[1], modes)
    output = check_output(output, [place.path for place in places], overwrite, (SCRIPT,))
    nothing = Selection.parse("none")
    kept = {mode: text for mode, text in modes.items() if Selection.parse(text) != nothing}
    plain = tuple(mode for mode in modes if mode not in kept) or ("base",)
    with staged(output, overwrite, (SCRIPT,)) as folder:
        ranks = [write_adapter(places, folder / mode, text, declare) for mode, text in kept.items()]
        served = Served(
            places[0], plain, {mode: output / mode for mode in kept}, max(ranks, default=1)
        )
        script = f"#!/bin/sh\nexec {shlex.join(served.command(flags))}\n"
        (folder / SCRIPT).write_text(script, encoding="utf-8")
    return served


def write_adapter(
    places: tuple[Located, Located], folder: Path, keep: str, declare: Mapping[str, str] | None
) -> int:
    """Write a mode's adapter as vLLM takes it.

    Args:
        places: The base model, and the adapter.
        folder: What to write; nothing is there.
        keep: What the mode keeps.
        declare: Pattern of a tensor's name → component, for names that anatomy does not know.

    Returns:
        What ``--max-lora-rank`` must be at least.

    Raises:
        AdapterError: If vLLM cannot carry a part of it that the mode keeps.
    """
    whole = folder.with_name(f".{folder.name}") / folder.name  # its card shows the name
    try:
        compose(*places, whole, keep, declare=declare)
        export(whole, "vllm", folder, base=places[0].given, verify=False)
    finally:
        shutil.rmtree(whole.parent, ignore_errors=True)
    return slots(read_adapter(folder))


def find(otherwise: str = "see its command with --print") -> str:
    """Where vLLM's command is.

    Args:
        otherwise: What can be done without it.

    Raises:
        InputError: If it is not on the PATH.
    """
    found = shutil.which("vllm")
    if found is None:
        raise InputError(
            "The command vllm is not on the PATH.",
            "Install it in an environment of its own, as it pins other versions of torch and "
            "transformers (python3 -m venv vllm && vllm/bin/pip install vllm), put vllm/bin on the "
            f"PATH, and try again; or {otherwise}.",
        )
    return found


def run(command: Sequence[str], api_key: str | None = None) -> None:
    """Run vLLM until it ends.

    Args:
        command: Its command.
        api_key: The key that clients need; it goes through the environment, not the command line,
            which everybody on the machine can read.

    Raises:
        RunError: If vLLM fails.
    """
    environment = os.environ | ({"VLLM_API_KEY": api_key} if api_key else {})
    with subprocess.Popen([find(), *command[1:]], env=environment) as child:
        try:
            code = child.wait()
        except KeyboardInterrupt:
            child.terminate()  # and the block waits for it to end
            raise
    if code:
        raise RunError(f"vLLM ended with code {code}.", "What it printed above says why.")


def _check(tuned: Located, modes: Mapping[str, str]) -> None:
    if not holds_adapter(tuned.path):
        raise AdapterError(
            f"{tuned.given} is a whole checkpoint, and one vLLM server holds one of those.",
            "Write each mode with taia compose, and run vllm serve on each; or serve them all "
            "with --engine taia.",
        )
    for mode in modes:
        if not _NAME.fullmatch(mode):
            raise InputError(
                f"{mode!r} is no name for a model in vLLM.", "Give the mode one: NAME=SELECTION."
            )
