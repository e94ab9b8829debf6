"""Writes docs/cli.md: what ``--help`` says of every command.

``python scripts/make_cli_help.py`` rewrites it; ``--check`` only says whether it is current.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

PAGE: Final = Path(__file__).parents[1] / "docs" / "cli.md"

#: Typer asks these when it is imported or prints; so the page is the same whatever the terminal.
TERMINAL: Final = {
    "COLUMNS": "80",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "NO_COLOR": "1",
    "TERM": "dumb",
    "TYPER_USE_RICH": "0",
}
_HINTS: Final = ("FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS", "TERMINAL_WIDTH")

_HEAD: Final = """# The command line

Results go to stdout, progress and complaints to stderr: two lines, what was wrong and what to do.
Where a selection is wrong, it stands between the two, with a mark below the character. With
`--debug` the traceback goes to a file, which a last line names. Exit codes: 0 done, 1 the work
failed, 2 what was given cannot be used, 3 a condition of `eval --require` is not met, 130
interrupted, 141 nobody reads the output any more. `taia --install-completion` completes commands,
flags and modes in your shell.

Written by `python scripts/make_cli_help.py` from what each command says of itself; the test suite
checks that it is current.
"""


def page() -> str:
    """The whole page."""
    for hint in _HINTS:
        os.environ.pop(hint, None)
    os.environ.update(TERMINAL)
    # Only now: Typer reads the environment when it is imported.
    from typer.main import get_command
    from typer.testing import CliRunner

    from taia.cli import app

    runner = CliRunner()
    parts = [_HEAD]
    for path in _paths(get_command(app)):
        said = runner.invoke(app, [*path, "--help"], prog_name="taia")
        if said.exit_code != 0:
            raise SystemExit(f"taia {' '.join(path)} --help failed: {said.output}")
        text = "\n".join(line.rstrip() for line in said.output.strip().splitlines())
        parts.append(f"## {' '.join(('taia', *path))}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def _paths(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:  # noqa: ANN401 - Typer keeps the class of its commands to itself
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        if not inner.hidden:
            yield from _paths(inner, (*path, name))


def main() -> int:
    """Writes or checks the page; 1 where it is not current."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--check", action="store_true", help="Write nothing.")
    text = page()
    if not arguments.parse_args().check:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
        print("docs/cli.md is not current: python scripts/make_cli_help.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
