"""Runs the command line as a person would: in a process of its own, with pipes."""

from __future__ import annotations

import os
import subprocess
import sys


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
