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

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Not errors, but ways to stop.
_STOPS: Final = (KeyboardInterrupt, SystemExit, GeneratorExit)


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


def first_line(error: BaseException) -> str:
    """What an error says first, without its full stop; its kind where it says nothing."""
    lines = str(error).strip().splitlines()
    return (lines[0].strip().rstrip(".") if lines else "") or type(error).__name__


@contextmanager
def reading_of(what: str, mend: str, kind: type[InputError] = InputError) -> Iterator[None]:
    """Whatever a library raises while it reads a user's file: input that cannot be used.

    A list of what libraries raise would never be complete. What passes is an error of taia's own,
    memory that has run out, and a package that is not installed: those are not the file's fault.

    Args:
        what: What is read, and of what, such as ``"the tokenizer of base/"``.
        mend: What to do about it.
        kind: Of the error.

    Raises:
        InputError: Of that kind, if anything is raised.
    """
    try:
        yield
    except (TaiaError, MemoryError, ModuleNotFoundError, *_STOPS):
        raise
    except BaseException as error:  # a library in Rust panics with one
        raise kind(f"{what} cannot be read: {first_line(error)}.", mend) from error
