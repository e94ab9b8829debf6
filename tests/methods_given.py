"""Tensors for methods, made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from taia.anatomy.labels import Label, TensorInfo
from taia.methods import Applied, Given
from taia.methods.calculate import changed

NAME = "model.layers.1.mlp.up_proj.weight"


def a_label(name: str = NAME, shape: tuple[int, ...] = (6, 8), **what: Any) -> Label:
    """One of a matrix in layer 1 unless told otherwise."""
    fields = {"component": "mlp", "layer": 1, "projection": "up_proj", "stack": "model.layers"}
    return Label(TensorInfo(name, shape, "F32"), **{**fields, **what})


def normal(*shape: int, seed: int = 3, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def of(method: str, update: np.ndarray, weight: np.ndarray | None = None, **what: Any) -> Any:
    """f(Δ) by a method written out."""
    label = what.pop("label", None) or a_label(shape=update.shape)
    statistics, inputs_first = what.pop("statistics", None), what.pop("inputs_first", False)
    base = np.zeros_like(update) if weight is None else weight
    given = Given.of(label, 4, base, update, statistics, inputs_first=inputs_first)
    return changed(Applied.parse(method), given)
