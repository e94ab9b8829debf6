"""What can go wrong, as a tree.

::

    TaiaError                   anything taia raises on purpose
    ├── InputError              what you gave cannot be used   (also ValueError, exit code 2)
    │   ├── AnatomyError        a tensor that no rule labels, or that two rules label differently
    │   ├── SelectionError      a selection that cannot be read, or that matches nothing
    │   ├── MethodError         a method that there is not, or that cannot be applied as it stands
    │   ├── CheckpointError     a model folder that is damaged, unsafe or not safetensors
    │   ├── AdapterError        an adapter that cannot be filtered or merged faithfully
    │   ├── MismatchError       base and tuned do not belong together
    │   ├── DataError           questions or training rows that cannot be read
    │   └── DestinationError    an output where something is already, or that is an input
    └── RunError                the work itself failed         (exit code 1)
        ├── OutputError         the output could not be written (full disk, permissions)
        ├── DownloadError       something could not be fetched, or is not what it should be
        └── StoppedError        stopped on request, and saved  (exit code 130)

Every error says in its first line what was wrong and where, and in its last what to do. There are
no others, but that a selection that is wrong stands between the two, with a mark below the
character.
"""

from __future__ import annotations

import errno
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

#: Not errors, but ways to stop.
_STOPS: Final = (KeyboardInterrupt, SystemExit, GeneratorExit)
#: How PyTorch says it of the machine's memory and of Apple's, for which it has no class.
_NO_MEMORY: Final = re.compile(
    r"DefaultCPUAllocator|\bout of memory\b|\bcannot allocate memory\b|\bbad_alloc\b|"
    r"\bunable to allocate\b|\bfailed to (?:allocate|map segment)\b|_ALLOC_FAILED\b",
    re.IGNORECASE,
)
#: How pydantic begins.
_COUNTED: Final = re.compile(r"\d+ validation errors? for .*")


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


class MethodError(InputError):
    """A method that there is not, or that cannot be applied as it stands."""


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
    """What an error says first, without its full stop; its kind where it says nothing.

    A line that ends in a colon goes on in the next; pydantic counts, then names a field, then says.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = 3 if lines and _COUNTED.fullmatch(lines[0]) else 1
    while told < len(lines) and lines[told - 1].endswith(":"):
        told += 1
    return " ".join(lines[:told]).rstrip(".: ") or type(error).__name__


def out_of_memory(error: BaseException) -> bool:
    """Whether memory has run out, of the machine or of an accelerator, or was what caused an error.

    PyTorch's class for an accelerator's is known by its name, so that torch is not loaded for it.
    """
    if error.__cause__ is not None and out_of_memory(error.__cause__):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    named = any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)
    told = (
        isinstance(error, RuntimeError | ImportError) and _NO_MEMORY.search(str(error)) is not None
    )
    return isinstance(error, MemoryError) or named or told


@contextmanager
def blaming(
    kind: type[TaiaError],
    problem: str,
    mend: str,
    *,
    telling: Callable[[BaseException], str] = first_line,
) -> Iterator[None]:
    """Whatever a library raises inside, as an error of a kind.

    A list of what libraries raise would never be complete. What passes is an error of taia's own,
    memory that has run out, and a package that is not installed: no input is to blame for those.

    Args:
        kind: Of the error.
        problem: What was wrong and where; what the library says is put behind it.
        mend: What to do about it.
        telling: What a library's error says, in one line without its full stop.

    Raises:
        TaiaError: Of that kind, if anything is raised.
        MemoryError: If memory ran out, however the library says so.
    """
    try:
        yield
    except (TaiaError, MemoryError, ModuleNotFoundError, *_STOPS):
        raise
    except BaseException as error:  # a library in Rust panics with one
        if out_of_memory(error):
            raise MemoryError(str(error)) from error
        raise kind(f"{problem}: {telling(error)}.", mend) from error


def reading_of(
    what: str, mend: str, kind: type[InputError] = InputError
) -> AbstractContextManager[None]:
    """Whatever a library raises while it reads a user's file: input that cannot be used.

    Args:
        what: What is read, and of what, such as ``"the tokenizer of base/"``.
        mend: What to do about it.
        kind: Of the error.

    Returns:
        To read in, as :func:`blaming` has it.
    """
    return blaming(kind, f"{what} cannot be read", mend)
