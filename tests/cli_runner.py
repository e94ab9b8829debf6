"""Runs the command line as a person would: in a process of its own, with pipes."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple
from unittest import mock

import pytest


class Ended(NamedTuple):
    """What a run printed."""

    stdout: str
    stderr: str


def taia(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Runs ``taia`` and checks its exit code."""
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "taia", *arguments],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def inside(*arguments: str, code: int = 0) -> Ended:
    """Runs ``taia`` in this process, where heavy libraries are loaded already."""
    from taia.cli import main

    out, err = io.StringIO(), io.StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with (
            mock.patch.object(sys, "argv", ["taia", *arguments]),
            redirect_stdout(out),
            redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            main()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert (ended.value.code or 0) == code, out.getvalue() + err.getvalue()
    return Ended(out.getvalue(), err.getvalue())
