"""Sizes of tensors in files, piece by piece: constant memory, however large they are."""

from __future__ import annotations

import math
from typing import Final

import torch

from taia.checkpoint.blending import read
from taia.checkpoint.copying import Sources
from taia.checkpoint.steps import Rope, cut, elements

_PIECE: Final = 1 << 20  # elements: some megabytes in float32


def size(base: Rope, sources: Sources) -> float:
    """‖W‖."""
    return math.sqrt(math.fsum(_squared(_read(base, start, sources)) for start in _starts(base)))


def distance(base: Rope, tuned: Rope, sources: Sources) -> float:
    """‖W_tuned − W_base‖."""
    return math.sqrt(
        math.fsum(
            _squared(_read(tuned, start, sources) - _read(base, start, sources))
            for start in _starts(base)
        )
    )


def norm(values: torch.Tensor) -> float:
    """The Frobenius norm, summed in float64."""
    return float(torch.linalg.vector_norm(values, dtype=torch.float64))


def _starts(runs: Rope) -> range:
    return range(0, elements(runs), _PIECE)


def _read(runs: Rope, start: int, sources: Sources) -> torch.Tensor:
    values = read(cut(runs, start, start + _PIECE), sources)
    return values if values.dtype == torch.float64 else values.to(torch.float32)


def _squared(values: torch.Tensor) -> float:
    return norm(values) ** 2
