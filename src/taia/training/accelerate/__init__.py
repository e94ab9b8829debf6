"""Ready configurations for ``accelerate launch``: many GPUs, many machines.

``python -m taia.training.accelerate fsdp`` prints where one lies.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from taia.errors import InputError

_HERE: Final = Path(__file__).parent

#: What can be asked for, by name.
NAMES: Final = tuple(sorted(path.stem for path in _HERE.glob("*.yaml")))


def accelerate_config(name: str) -> Path:
    """The path of a configuration that comes with taia.

    Args:
        name: ``ddp``, ``fsdp`` (FSDP2) or ``zero3`` (DeepSpeed).

    Raises:
        InputError: If there is none of that name.
    """
    if name not in NAMES:
        raise InputError(
            f"There is no accelerate configuration {name!r}.",
            f"Use {', '.join(NAMES[:-1])} or {NAMES[-1]}, or `accelerate launch` with a file of "
            "your own.",
        )
    return _HERE / f"{name}.yaml"


def relaunch_command(name: str, argv: Sequence[str], processes: int | None) -> list[str]:
    """The command that runs taia again, once in each process.

    The processes find each other at a free port of this machine. For several machines call
    ``accelerate launch`` on each.

    Args:
        name: As for ``accelerate_config``.
        argv: taia's own arguments, ``["train", …]``, without what asked for several processes.
        processes: How many; None: one for each GPU.

    Returns:
        Program and arguments.

    Raises:
        InputError: If there is no such configuration, no GPU to count, or fewer than one process.
    """
    config = accelerate_config(name)
    if processes is None:
        import torch

        processes = torch.accelerator.device_count() if torch.accelerator.is_available() else 0
        if processes == 0:
            raise InputError(
                f"There is no GPU here to launch {name} on.",
                "Say how many processes to start, or train without accelerate on one.",
            )
    if processes < 1:
        raise InputError(f"{processes} processes cannot be launched.", "Ask for at least one.")
    return [
        *(sys.executable, "-m", "accelerate.commands.launch"),
        *("--config_file", str(config)),
        *("--num_processes", str(processes)),
        *("--main_process_port", "0"),
        *("--module", "taia", *argv),
    ]
