"""docs/cli.md is what the commands say of themselves, whatever terminal it was made on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from taia.cli import app

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "cli.md"

NARROW = {"COLUMNS": "40", "TERMINAL_WIDTH": "40", "FORCE_COLOR": "1", "TYPER_USE_RICH": "1"}


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / "make_cli_help.py", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("terminal", [{}, NARROW], ids=["this terminal", "a narrow one in colour"])
def test_the_page_is_current(terminal):
    done = run("--check", **terminal)
    assert done.returncode == 0, done.stderr


def test_the_page_has_every_command():
    text = PAGE.read_text(encoding="utf-8")
    names = [command.name or command.callback.__name__ for command in app.registered_commands]
    assert "\n## taia\n" in text
    assert names
    assert all(f"\n## taia {name}\n" in text for name in names)
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 100
