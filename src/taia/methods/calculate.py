"""f(Δ): a method applied to one tensor, or to the two factors of a low-rank update.

The same for files and for live models. It loads NumPy, so it is imported where something is
calculated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from taia.errors import MethodError, first_line
from taia.methods.applied import Applied
from taia.methods.given import Array, Given
from taia.methods.method import is_stack


def changed(applied: Applied, given: Given) -> Array:
    """f(Δ) of one tensor; Δ itself, bit for bit, where the method changes nothing.

    Args:
        applied: The method.
        given: The tensor. Of a stack of experts' matrices each is taken for itself.

    Returns:
        Of the tensor's shape.

    Raises:
        MethodError: If a statistic is missing or does not fit, or the tensor holds numbers that no
            formula can work with.
    """
    if not applied.calculates(given.label):
        factor = applied.scale(given.label, given.depth)
        return given.update if factor == 1 else given.update * given.update.dtype.type(factor)
    if is_stack(given.label) and given.expert is None and given.update.size:
        each = (given.of_expert(index) for index in range(len(given.update)))
        return np.stack([changed(applied, one) for one in each])
    with _solving(given, given.update, *([given.weight] if applied.method.reads_base else [])):
        if applied.method.entries is not None:
            result: Array = applied.method.entries(given, **applied.values)
            return result
        return _by_spectrum(applied, given)


def changed_factors(
    applied: Applied, given: Given, a: Array, b: Array, scaling: float
) -> tuple[Array, Array]:
    """The factors of f(Δ) for Δ = s·B·A, of the same rank and scaling; Δ is not formed.

    What the formula makes of higher rank is cut to its largest singular values. Where it changes
    nothing these are the factors given.

    Args:
        applied: A method by its spectrum.
        given: The tensor; its update is not read.
        a: [r, inputs].
        b: [outputs, r].
        scaling: s.

    Returns:
        [r, inputs] and [outputs, r], float64.

    Raises:
        MethodError: As :func:`changed` does.
    """
    with _solving(given, a, b, *([given.weight] if applied.method.reads_base else [])):
        return _factors_by_spectrum(applied, given, a, b, scaling)


def of_factors(a: Array, b: Array, scaling: float) -> tuple[Array, Array, Array]:
    """The singular values and vectors of s·B·A, from an r×r core.

    Args:
        a: [r, inputs].
        b: [outputs, r].
        scaling: s.

    Returns:
        u [outputs, k], values [k] from the largest to the smallest, and v [inputs, k], float64,
        where k is r or the matrix's shorter side.
    """
    left, core_b = np.linalg.qr(b.astype(np.float64))
    right, core_a = np.linalg.qr(a.T.astype(np.float64))
    u, s, vt = np.linalg.svd(core_b @ core_a.T * scaling)
    k = len(s)
    return left @ u[:, :k], s, right @ vt[:k].T


def _by_spectrum(applied: Applied, given: Given) -> Array:
    assert applied.method.spectrum is not None
    u, s, vt = np.linalg.svd(given.update, full_matrices=False)
    v = vt.T
    left, sizes, right = applied.method.spectrum(given, u, s, v, **applied.values)
    if left is u and right is v and np.array_equal(sizes, s):
        return given.update
    kept = sizes != 0
    made: Array = (left[:, kept] * sizes[kept]) @ right[:, kept].T
    return made.astype(given.update.dtype, copy=False)


def _factors_by_spectrum(
    applied: Applied, given: Given, a: Array, b: Array, scaling: float
) -> tuple[Array, Array]:
    assert applied.method.spectrum is not None
    u, s, v = of_factors(a, b, scaling)
    sides = (v, s, u) if given.inputs_first else (u, s, v)
    left, sizes, right = applied.method.spectrum(given, *sides, **applied.values)
    if left is sides[0] and right is sides[2] and np.array_equal(sizes, s):
        return a, b
    outputs, inputs = (right, left) if given.inputs_first else (left, right)
    # what was added or projected is not orthonormal
    u, s, v = of_factors(inputs.T, outputs * sizes, 1.0)
    rank = min(len(a), len(s))
    # shared between the two, so that neither is much larger than the other
    root = np.sqrt(s[:rank] / abs(scaling)) if scaling else np.zeros(rank)
    new_a, new_b = np.zeros(a.shape), np.zeros(b.shape)
    new_a[:rank] = (v[:, :rank] * root).T
    new_b[:, :rank] = u[:, :rank] * root * np.sign(scaling)
    return new_a, new_b


@contextmanager
def _solving(given: Given, *numbers: Array) -> Iterator[None]:
    """What nothing can be calculated of, as an error that names the tensor."""
    problem = f"{given.label.tensor.name!r} cannot be worked on"
    if not all(np.isfinite(array).all() for array in numbers):
        raise MethodError(
            f"{problem}: base or update holds a number that is not finite.",
            "Leave it out of --keep, or look for what broke the model.",
        )
    try:
        yield
    except np.linalg.LinAlgError as error:
        raise MethodError(
            f"{problem}: {first_line(error)}.", "Look at the statistics that were given of it."
        ) from error
