"""Commands as Typer makes them, with help that cuts no name, and a word for what is misspelt."""

from __future__ import annotations

import re
import shutil
import sys
from copy import copy
from textwrap import wrap
from typing import Any, Final

from typer.core import TyperCommand, TyperGroup

from taia.cli.guard import ending
from taia.cli.idle import IDLE, refuse_idle
from taia.cli.meant import no_command

#: Characters a line from which on a flag's help stands beside it.
_BESIDE: Final = 58
#: What a line may end after: a word, or one of several choices.
_PARTS: Final = re.compile(r"[^\s|]+\||\S+\s*")


class Command(TyperCommand):
    """A command whose help lists its flags under their headings."""

    def make_parser(self, ctx: Any) -> Any:  # noqa: ANN401 - Typer's own
        """Its parser, to which ``--lora_r``, as TRL and transformers write it, is ``--lora-r``.

        Only of flags: to Typer, whose own setting this is, ``q8_0`` would be ``q8-0``, too.
        """
        ctx = copy(ctx)
        ctx.token_normalize_func = lambda token: token.replace("_", "-")
        return super().make_parser(ctx)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - Typer's own
        """Run it, if all that was typed has an effect."""
        refuse_idle(IDLE.get(self.name or "", ()), _typed(self, ctx), ctx.params)
        return super().invoke(ctx)

    def get_help(self, ctx: Any) -> str:  # noqa: ANN401 - Typer's own
        """Its help, in letters that stdout has."""
        return _in_its_letters(super().get_help(_at_its_width(ctx)))

    def format_options(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - Typer's own
        """Write what it takes: arguments, then flags, then each heading's."""
        panels: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for param in self.get_params(ctx):
            if (record := param.get_help_record(ctx)) is None:
                continue
            kind = "Arguments" if param.param_type_name == "argument" else "Options"
            panel = getattr(param, "rich_help_panel", None) or kind
            panels.setdefault(panel, []).append(record)
        for heading, rows in panels.items():
            if rows:
                _write_rows(formatter, heading, rows)


class CommandGroup(TyperGroup):
    """The commands."""

    def make_context(self, *args: Any, **extra: Any) -> Any:  # noqa: ANN401 - Typer's own
        """What is typed, read; Typer would say nothing of an interruption."""
        with ending():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - Typer's own
        """A command, read and run; Typer would say nothing of an interruption."""
        with ending():
            return super().invoke(ctx)

    def get_help(self, ctx: Any) -> str:  # noqa: ANN401 - Typer's own
        """Their help, in letters that stdout has."""
        return _in_its_letters(super().get_help(_at_its_width(ctx)))

    def format_options(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - Typer's own
        """Write the flags, then the commands."""
        rows = [param.get_help_record(ctx) for param in self.get_params(ctx)]
        _write_rows(formatter, "Options", [row for row in rows if row is not None])
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - Typer's own
        """Write each command's first sentence, whole."""
        told = [(name, self.commands[name].get_short_help_str(200)) for name in self.commands]
        _write_rows(formatter, "Commands", told)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - Typer's own
        """The command that is called.

        Raises:
            InputError: If there is none of that name.
        """
        name = args[0]
        if name[:1] != "-" and self.get_command(ctx, name) is None and not ctx.resilient_parsing:
            raise no_command(name, self.commands)
        return super().resolve_command(ctx, args)


def _typed(command: Any, ctx: Any) -> list[str]:  # noqa: ANN401 - Typer's own
    """The flags that were typed, and arguments in capitals."""
    return [
        (param.metavar or param.name).upper() if param.param_type_name == "argument" else flag
        for param in command.params
        for flag in param.opts
        if getattr(ctx.get_parameter_source(param.name), "name", "") == "COMMANDLINE"
    ]


def _at_its_width(ctx: Any) -> Any:  # noqa: ANN401 - Typer's own
    """The context at its terminal's width; Typer would write at least 50 characters a line."""
    ctx.terminal_width = max(min(shutil.get_terminal_size().columns, 80) - 2, 20)
    return ctx


def _write_rows(formatter: Any, heading: str, rows: list[tuple[str, str]]) -> None:  # noqa: ANN401 - Typer's own
    """Write names with what they are: beside them, or below where there is no room for both."""
    room = formatter.width - 2
    with formatter.section(heading):
        if formatter.width >= _BESIDE and max(len(name) for name, _ in rows) <= room:
            formatter.write_dl(rows)
            return
        for name, told in rows:
            for line in _broken(name, room):
                formatter.write(f"  {line}\n")
            for line in wrap(told, room - 4, break_on_hyphens=False):
                formatter.write(f"      {line}\n")


def _broken(name: str, room: int) -> list[str]:
    """A flag and what it takes, in lines that end between words or choices; no name is cut."""
    lines = [""]
    for part in _PARTS.findall(name):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > room:
            lines.append("    ")
        lines[-1] += part
    return [line.rstrip() for line in lines]


def _in_its_letters(text: str) -> str:
    """Text with what stdout's encoding does not have replaced; Typer would write UTF-8 to ASCII."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)
