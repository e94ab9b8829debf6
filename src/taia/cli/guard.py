"""How a command ends: whatever was raised becomes two lines and an exit code."""

from __future__ import annotations

import errno
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple, TextIO

import typer

from taia.cli.meant import usage
from taia.errors import RunError, SelectionError, StoppedError, TaiaError, first_line, out_of_memory
from taia.packages import not_installed
from taia.text import around, printable, shortened

#: Characters of each of the two lines.
_MOST: Final = 1000
#: Characters of a selection that are shown, around the one that an error points at.
_SELECTION: Final = 120
#: What a shell makes of a program that writes to a pipe nobody reads.
_PIPE_CLOSED: Final = 128 + getattr(signal, "SIGPIPE", 13)
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class _Ending(NamedTuple):
    problem: str
    mend: str
    code: int


@contextmanager
def ending(command: str = "", debug: bool = False) -> Iterator[None]:
    """End what runs inside with two lines on stderr, whatever it raises.

    Args:
        command: Which is running.
        debug: Whether the traceback is kept in a file, whose name is a third line.

    Raises:
        typer.Exit: With 2 for bad input, 1 for a failure, 130 for an interruption, and without a
            word where nobody reads the output any more (``taia … | head``).
    """
    try:
        yield
        sys.stdout.flush()  # here it can be told that the disk is full
    except (typer.Exit, SystemExit):
        raise
    except BrokenPipeError:
        _hush()
        raise typer.Exit(_PIPE_CLOSED) from None
    except BaseException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            say(str(getattr(error, "message", error)))
            raise typer.Exit(2) from None
        ended = _read(error, command)
        lines = [ended.problem, ended.mend]
        if debug:
            lines.append(f"The traceback is in {_keep(error, ended)}")
        with suppress(OSError):  # stderr may be full as well
            say("\n      ".join(shortened(line, _MOST) for line in lines), "taia: ")
        raise typer.Exit(ended.code) from None


def say(words: str, before: str = "") -> None:
    """Say something on stderr; names in it, whatever they are, cannot steer the terminal."""
    print(f"{before}{printable(words)}", file=sys.stderr, flush=True)


def complete_streams() -> None:
    """Put a stream that leads nowhere where the caller has closed one, as ``>&-`` does.

    Else the next file that is opened would get its number, and what libraries print would go there.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def forgive(*streams: TextIO) -> None:
    """Let streams replace what their encoding does not have: ``α`` is ``?`` in ASCII."""
    for stream in streams:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _read(error: BaseException, command: str) -> _Ending:
    """What to say of an error, and the exit code."""
    if _is_interrupted(error):
        return _Ending("interrupted", "Nothing half-written was left behind.", 130)
    if isinstance(error, TaiaError):
        pointed = isinstance(error, SelectionError)
        problem = _pointed(error.problem) if pointed else _flat(error.problem)
        return _Ending(problem, _flat(error.mend), error.exit_code)
    if hasattr(error, "format_message"):  # the parser's own
        return _read(usage(error), command)
    if isinstance(error, ImportError):
        return _read(not_installed(error, command), command)
    return _read(RunError(*_unexpected(error)), command)


def _is_interrupted(error: BaseException) -> bool:
    """Whether an interruption lies below an error: Python and libraries wrap what is raised."""
    seen: set[int] = set()
    below: BaseException | None = error
    while below is not None and id(below) not in seen:
        if isinstance(below, StoppedError):  # which says what was saved
            return False
        if isinstance(below, KeyboardInterrupt):
            return True
        seen.add(id(below))
        below = below.__cause__ or below.__context__
    return False


def _pointed(problem: str) -> str:
    """A selection's error, which may point at a character in lines of its own, at a width to read.

    The selection is cut around that character.
    """
    first, *rest = problem.split("\n")
    if len(rest) != 2 or rest[1].strip() != "^":
        return problem
    line, at = around(rest[0][2:], len(rest[1]) - 3, _SELECTION)
    return f"{shortened(first, 2 * _SELECTION)}\n  {line}\n  {' ' * at}^"


def _unexpected(error: BaseException) -> tuple[str, str]:
    """What no part of taia has foreseen."""
    said = first_line(error)
    if out_of_memory(error):
        return "The memory is full.", "Try a smaller model or batch, or a machine with more."
    if isinstance(error, RecursionError):
        return "Something given is nested too deeply.", "Check the files for brackets in brackets."
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        what = f"{where}{error.strerror or said}."
        if error.errno in _FULL:
            return what, "Make room, and give the same command again."
        return what, "Check that it is there and may be read and written."
    kind = type(error).__name__
    told = kind if said == kind else f"{kind}: {said}"
    return (
        f"Something failed that taia did not foresee: {told}.",
        "Give the command again with --debug, and report what the file holds that it names.",
    )


def _flat(words: str) -> str:
    """On one line, as names may hold line breaks, and what libraries say does."""
    return " ".join(part.strip() for part in words.splitlines())


def _keep(error: BaseException, ended: _Ending) -> str:
    number, name = tempfile.mkstemp(prefix="taia-", suffix=".log")
    with os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(f"{ended.problem}\n{ended.mend}\n\n")
        file.writelines(traceback.format_exception(error))
    return name


def _hush() -> None:
    """Let Python find no closed pipe when it flushes at its end."""
    nowhere: Any = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
