"""Shared by the fuzz tests: hostile values, and a process with bounds.

Each kind of hostile input is tried some dozens of times, which takes CI about a minute in all.
Longer by hand: ``TAIA_FUZZ=5000 pytest tests/fuzz -n 0`` tries each of them so many times.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from taia.errors import SelectionError, TaiaError

often = settings(
    max_examples=int(os.environ.get("TAIA_FUZZ", "40")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

#: More memory than a refusal may take: the interpreter, the headers of a model, and some room.
MOST_MEMORY = 300 << 20
#: After so many seconds a process hangs.
HANGS = 120

numbers = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([2**31, 2**32, 2**63, -(2**63), 10**18, 10**400, 50_000_000, 1e308, -0.0]),
)
words = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["", "²", "٣", "07", "8", "\ud800", "\0", "../x", "{{ x }}", "(a+)+$", "9" * 5000]
    ),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, words),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(words, inner, max_size=4)),
    max_leaves=8,
)
_KNOWN = """
model layers 0 1 31 mlp self_attn q_proj experts weight h lm_head embed_tokens gate_up_proj
module _orig_mod base_model
"""
parts = st.one_of(words, st.sampled_from(_KNOWN.split()))
names = st.lists(parts, min_size=1, max_size=8).map(".".join)


def outcome(use: Callable[[], Any]) -> Any:
    """What a call gives, or its error if that is one of taia's, in two lines."""
    try:
        return use()
    except TaiaError as error:
        refused = error
    assert refused.problem
    assert refused.mend
    # A selection's error points at a character below the line.
    assert isinstance(refused, SelectionError) or "\n" not in refused.problem + refused.mend
    return refused


def alone(code: str, *arguments: object) -> str:
    """What a process prints that runs code within bounds: it does not hang, nor take memory.

    The code's peak is what counts, beyond what the interpreter has when it begins.
    """
    program = f"""
import resource, sys
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
from taia.errors import TaiaError
try:
{chr(10).join("    " + line for line in code.strip().splitlines())}
except TaiaError as error:
    print(type(error).__name__ + ":", error.problem[:300])
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) << 10)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=HANGS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    *said, memory = done.stdout.strip().splitlines()
    assert int(memory) < MOST_MEMORY, (said, memory)
    return "\n".join(said)
