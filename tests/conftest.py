"""Shared by all tests. Its being here also lets them import the helper modules beside it."""

import gc
import os
import signal

import pytest
from hypothesis import settings

# Tests run side by side; more threads in each would only wait for one another. Read by torch when
# it is imported, here and in the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Else each of those processes, and there are hundreds, compiles all of taia anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Models of tests are small; to look for what is to be thrown away is not.
gc.set_threshold(50_000)

# A shell ignores Ctrl-C in what it starts in the background, and all of its children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Properties are not timed: a busy machine is no bug.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="module", autouse=True)
def _what_stays_is_not_looked_at_again() -> None:
    """Half a million objects of libraries, else gone over each time a trainer lets go of memory."""
    gc.collect()
    gc.freeze()
