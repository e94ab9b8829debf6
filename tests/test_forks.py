"""A fork ends as the same program does that ``python -m`` starts from nothing."""

import os
import signal
import subprocess
import sys

import pytest

import forks

PROGRAMS = {
    "its end": "print('é'); print('!', file=sys.stderr)",
    "a code": "sys.exit(7)",
    "a word": "sys.exit('no')",
    "an error": "1 / 0",
    "a kill": "os.kill(os.getpid(), signal.SIGKILL)",
    "a termination": "os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)",
    "Ctrl-C": "os.kill(os.getpid(), signal.SIGINT); time.sleep(60)",
    "Ctrl-C in an exec": """
try:
    exec("raise KeyboardInterrupt")
except KeyboardInterrupt:
    sys.exit(130)
""",
    "atexit": "atexit.register(print, 'bye')",
    "a thread": "threading.Thread(target=lambda: (time.sleep(0), print('late'))).start()",
    "arguments": "print(sys.argv[1:], os.getcwd(), os.environ['GIVEN'], 'HOME' in os.environ)",
    "no input": "print(repr(sys.stdin.read()))",
}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there are no forks")
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_fork_is_a_process_of_its_own(program, tmp_path):
    text = f"import atexit, os, signal, sys, threading, time\n{PROGRAMS[program]}\n"
    (tmp_path / "program.py").write_text(text)
    environment = {"PATH": os.environ["PATH"], "GIVEN": "some words", "PYTHONIOENCODING": "utf-8"}
    real = subprocess.run(
        [sys.executable, "-m", "program", "a", "b c"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=tmp_path, env=environment,
    )  # fmt: skip
    forked = forks.run(text, "a", "b c", modules=forks.LIGHT, env=environment, cwd=tmp_path)
    assert (forked.returncode, forked.stdout) == (real.returncode, real.stdout)
    assert forked.stderr.splitlines()[-1:] == real.stderr.splitlines()[-1:]


def test_a_signal_reaches_it_by_its_number():
    program = "import time; print('here', flush=True); time.sleep(60)"
    process = forks.start(program, modules=forks.LIGHT, stdout=forks.PIPE)
    assert process.stdout.readline() == "here\n"
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(60) == -signal.SIGTERM
    process.kill()  # of what has ended: nothing
    process.communicate()


def test_what_one_does_the_next_does_not_know():
    forks.run("import sys; sys.modules['sys'].left = 1", modules=forks.LIGHT)
    said = forks.run("import sys; print(hasattr(sys, 'left'))", modules=forks.LIGHT).stdout
    assert said == "False\n"
