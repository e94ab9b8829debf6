"""What can go wrong, as a tree.

::

    TaiaError                   anything taia raises on purpose
    ├── InputError              what you gave cannot be used   (also ValueError, exit code 2)
    │   ├── AnatomyError        a tensor that no rule labels, or that two rules label differently
    │   ├── SelectionError      a selection that cannot be read, or that matches nothing
    │   ├── CheckpointError     a model folder that is damaged, unsafe or not safetensors
    │   ├── AdapterError        an adapter that cannot be filtered or merged faithfully
    │   ├── MismatchError       base and tuned do not belong together
    │   ├── DataError           questions or training rows that cannot be read
    │   └── DestinationError    an output where something is already, or that is an input
    └── RunError                the work itself failed         (exit code 1)
        ├── OutputError         the output could not be written (full disk, permissions)
        ├── DownloadError       something could not be fetched, or is not what it should be
        └── StoppedError        stopped on request, and saved  (exit code 130)

Every error says in its first line what was wrong and where, and in its second what to do.
"""

from __future__ import annotations


class TaiaError(Exception):
    """Base of every error taia raises on purpose.

    Args:
        problem: What was wrong and where, in one line.
        mend: What to do about it, in one line.
    """

    exit_code = 1

    def __init__(self, problem: str, mend: str) -> None:
        super().__init__(problem, mend)
        self.problem = problem
        self.mend = mend

    def __str__(self) -> str:
        return f"{self.problem}\n{self.mend}"


class InputError(TaiaError, ValueError):
    """What you gave cannot be used."""

    exit_code = 2


class AnatomyError(InputError):
    """A tensor that no rule labels, or that two rules label differently."""


class SelectionError(InputError):
    """A selection that cannot be read, or that matches nothing."""


class CheckpointError(InputError):
    """A model folder that is damaged, unsafe or not safetensors."""


class AdapterError(InputError):
    """An adapter that cannot be filtered or merged faithfully."""


class MismatchError(InputError):
    """Base and tuned do not belong together."""


class DataError(InputError):
    """Questions or training rows that cannot be read."""


class DestinationError(InputError):
    """An output where something is already, or that is an input."""


class RunError(TaiaError):
    """The work itself failed."""


class OutputError(RunError):
    """The output could not be written (full disk, permissions)."""


class DownloadError(RunError):
    """Something could not be fetched, or is not what it should be."""


class StoppedError(RunError):
    """Stopped on request; what there was is saved, and can be gone on with."""

    exit_code = 130
