"""Commands as Typer makes them, with help that cuts no name, and a word for what is misspelt."""

from __future__ import annotations

import sys
from copy import copy
from typing import Any

from typer.core import TyperCommand, TyperGroup

from taia.cli.guard import ending
from taia.cli.meant import no_command


class Command(TyperCommand):
    """A command whose help lists its flags under their headings."""

    def make_parser(self, ctx: Any) -> Any:  # noqa: ANN401 - Typer's own
        """Its parser, to which ``--lora_r``, as TRL and transformers write it, is ``--lora-r``.

        Only of flags: to Typer, whose own setting this is, ``q8_0`` would be ``q8-0``, too.
        """
        ctx = copy(ctx)
        ctx.token_normalize_func = lambda token: token.replace("_", "-")
        return super().make_parser(ctx)

    def get_help(self, ctx: Any) -> str:  # noqa: ANN401 - Typer's own
        """Its help, in letters that stdout has."""
        return _in_its_letters(super().get_help(ctx))

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
                with formatter.section(heading):
                    formatter.write_dl(rows)


class Group(TyperGroup):
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
        return _in_its_letters(super().get_help(ctx))

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - Typer's own
        """Write each command's first sentence, whole."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, self.commands[name].get_short_help_str(200)) for name in self.commands]
            )

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - Typer's own
        """The command that is called.

        Raises:
            InputError: If there is none of that name.
        """
        name = args[0]
        if name[:1] != "-" and self.get_command(ctx, name) is None and not ctx.resilient_parsing:
            raise no_command(name, self.commands)
        return super().resolve_command(ctx, args)


def _in_its_letters(text: str) -> str:
    """Text with what stdout's encoding does not have replaced; Typer would write UTF-8 to ASCII."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)
