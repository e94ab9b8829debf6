"""Breadcrumbs: against plain sorting."""

from __future__ import annotations

import numpy as np
import pytest

from methods_given import normal, of


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("drop", [0.0, 0.01, 0.25, 1.0])
def test_the_middle_is_kept(keep: float, drop: float) -> None:
    update = normal(10, 10)
    order = np.argsort(-np.abs(update), axis=None)
    first = min(round(drop * 100), 100 - round(keep * 100))
    wanted = np.zeros(100, np.float32)
    kept = order[first : first + round(keep * 100)]
    wanted[kept] = update.reshape(-1)[kept]
    assert np.array_equal(of(f"breadcrumbs:keep={keep},drop={drop}", update).reshape(-1), wanted)


def test_at_the_ends_all_or_nothing() -> None:
    update = normal(10, 10)
    assert np.array_equal(of("breadcrumbs:keep=1,drop=0.5", update), update)
    assert not of("breadcrumbs:keep=0,drop=0", update).any()
