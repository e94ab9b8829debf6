"""Sizes of tensors in files, piece by piece: constant memory, however large they are."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from taia.checkpoint.arithmetic import read
from taia.checkpoint.sources import Runs, Sources, cut, elements
from taia.methods.given import Array

_PIECE: Final = 1 << 20  # elements: some megabytes in float32


def size(base: Runs, sources: Sources) -> float:
    """‖W‖."""
    return math.sqrt(math.fsum(_squared(_read(base, start, sources)) for start in _starts(base)))


def distance(base: Runs, tuned: Runs, sources: Sources) -> float:
    """‖W_tuned − W_base‖."""
    return math.sqrt(
        math.fsum(
            _squared(_read(tuned, start, sources) - _read(base, start, sources))
            for start in _starts(base)
        )
    )


def difference(base: Runs, tuned: Runs, sources: Sources) -> Array:
    """W_tuned − W_base, all of it, in one dimension."""
    return read(tuned, sources) - read(base, sources)


def norm(values: Array) -> float:
    """The Frobenius norm, summed in float64."""
    return float(np.linalg.norm(values.reshape(-1).astype(np.float64)))


def _starts(runs: Runs) -> range:
    return range(0, elements(runs), _PIECE)


def _read(runs: Runs, start: int, sources: Sources) -> Array:
    return read(cut(runs, start, start + _PIECE), sources)


def _squared(values: Array) -> float:
    return norm(values) ** 2
