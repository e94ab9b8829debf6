"""The command line: its commands, and how it ends."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from functools import wraps
from typing import Annotated, ParamSpec

import typer

from taia.cli.compose import compose
from taia.cli.demo import demo
from taia.cli.eval import evaluate
from taia.cli.export import export
from taia.cli.inspect import inspect
from taia.cli.report import report
from taia.cli.serve import serve
from taia.cli.train import train
from taia.errors import TaiaError

P = ParamSpec("P")


def _guarded(command: Callable[P, None]) -> Callable[P, None]:
    """The command, ending with an exit code where it would have ended with a traceback."""

    @wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except TaiaError as error:
            _complain(error.problem, error.mend)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            _complain("interrupted", "Nothing half-written was left behind.")
            raise typer.Exit(130) from None

    return guarded


def _complain(problem: str, mend: str) -> None:
    print(f"taia: {problem}\n      {mend}", file=sys.stderr)


app = typer.Typer(
    name="taia",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={
        "help_option_names": ["-h", "--help"],
        # TRL and transformers write --lora_r, everybody else --lora-r.
        "token_normalize_func": lambda token: token.replace("_", "-"),
    },
)
for command in (demo, train, compose, export, inspect, report, serve):
    app.command()(_guarded(command))
app.command("eval")(_guarded(evaluate))


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


def main() -> None:
    """Runs the command line and exits.

    Exit codes: 0 done, 1 the work failed, 2 the input cannot be used, 130 interrupted.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that both clean up alike
    app()
