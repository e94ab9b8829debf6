"""Shared by all tests. Its being here also lets them import the helper modules beside it."""

import os

# Tests run side by side; more threads in each would only wait for one another. Read by torch when
# it is imported, here and in the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
