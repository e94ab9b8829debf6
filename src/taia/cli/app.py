"""The command line: its commands, and how it ends."""

from __future__ import annotations

import inspect as signatures
import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer
from typer.main import get_command

from taia.cli.commands import Command, CommandGroup
from taia.cli.compose import compose
from taia.cli.demo import demo
from taia.cli.eval import evaluate
from taia.cli.export import export
from taia.cli.guard import complete_streams, ending, forgive
from taia.cli.inspect import inspect
from taia.cli.mend import mend
from taia.cli.report import report
from taia.cli.serve import serve
from taia.cli.train import train
from taia.errors import InputError
from taia.signals import Interrupted, Stop, hear

_Debug = Annotated[
    bool, typer.Option("--debug", help="Keep the traceback of a failure in a file, and name it.")
]


def _guarded(name: str, command: Callable[..., None]) -> Callable[..., None]:
    """The command, with --debug, ending as the guard says."""

    @wraps(command)
    def guarded(*args: Any, debug: bool = False, **kwargs: Any) -> None:  # noqa: ANN401 - a command's own
        with ending(name, debug):
            command(*args, **kwargs)

    own = signatures.signature(command, eval_str=True)
    flag = signatures.Parameter(
        "debug", signatures.Parameter.KEYWORD_ONLY, default=False, annotation=_Debug
    )
    parameters = [*own.parameters.values(), flag]
    guarded.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    guarded.__annotations__ = {p.name: p.annotation for p in parameters}
    return guarded


app = typer.Typer(
    name="taia",
    cls=CommandGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # tables of flags cut their names in a narrow terminal
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (demo, train, mend, compose, export, inspect, report, serve):
    app.command(command.__name__, cls=Command)(_guarded(command.__name__, command))
app.command("eval", cls=Command)(_guarded("eval", evaluate))


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"taia {version('taia')}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Fine-tune everything once. At inference, choose which updates to keep."""


def _check_working_directory() -> None:
    """Refuse one that was removed: libraries abort where they ask for it, without a word.

    Raises:
        InputError: If it is not there any more.
    """
    try:
        os.getcwd()  # noqa: PTH109 - pathlib's is the same
    except OSError as error:
        raise InputError(
            "The working directory is not there any more.", "Change to one that is, such as `cd ~`."
        ) from error


def main() -> None:
    """Runs the command line and exits.

    Exit codes: 0 done, 1 the work failed, 2 the input cannot be used, 3 a condition of
    ``eval --require`` is not met, 130 interrupted, 141 nobody reads the output any more.
    """
    hear(Stop(lambda _: Interrupted()))
    complete_streams()
    forgive(sys.stdout, sys.stderr)
    try:
        with ending():
            _check_working_directory()
            code = get_command(app).main(prog_name="taia", standalone_mode=False)
    except typer.Exit as ended:
        code = ended.exit_code
    sys.exit(code)
