"""Shared by all tests. Its being here also lets them import the helper modules beside it."""

import gc
import os
import signal

# Tests run side by side; more threads in each would only wait for one another. Read by torch when
# it is imported, here and in the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Else each of those processes, and there are hundreds, compiles all of taia anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A shell ignores Ctrl-C in what it starts in the background, and all of its children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from hypothesis import settings

# Properties are not timed: a busy machine is no bug.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_collection_finish() -> None:
    """What the libraries and the tests are made of lives to the end: it is not looked at again."""
    gc.collect()
    gc.freeze()
