"""Spectral Surgery as built here: its weights, its constraint and its direction."""

from __future__ import annotations

import numpy as np
import pytest

from methods_given import a_label, normal, of


def values(matrix: np.ndarray) -> np.ndarray:
    return np.linalg.svd(matrix, compute_uv=False)


def test_the_formula_by_hand() -> None:
    update = np.diag([4.0, 2.0, 1.0])  # u and v are the axes, up to signs that cancel
    measured = {"sensitivity": np.array([0.5, -1.0, 4.0])}  # effects 2, −2 and 4
    made = of("spectral-surgery:strength=0.5", update, statistics=measured)
    weighed = np.array([4 * 0.75, 2 * 1.25, 1 * 0.5])
    assert np.allclose(np.diag(made), weighed * 7 / weighed.sum())
    assert np.allclose(made - np.diag(np.diag(made)), 0)


@pytest.mark.parametrize("strength", [0.1, 0.5, 1.0])
def test_the_sum_of_singular_values_stays(strength: float) -> None:
    update, measured = normal(12, 8, dtype=np.float64), normal(8, dtype=np.float64)
    made = of(f"spectral-surgery:strength={strength}", update, statistics={"sensitivity": measured})
    assert values(made).sum() == pytest.approx(values(update).sum(), rel=1e-12)
    assert not np.allclose(made, update)


def test_what_helps_the_loss_most_gains_most() -> None:
    """gᵢ from a gradient: by how much each singular value grows is in the order of −σᵢ gᵢ."""
    update, gradient = (normal(12, 8, seed=i, dtype=np.float64) for i in (5, 6))
    u, s, vt = np.linalg.svd(update, full_matrices=False)
    measured = np.einsum("ik,ij,kj->k", u, gradient, vt)
    made = of("spectral-surgery:strength=1", update, statistics={"sensitivity": measured})
    # the directions stay, so these are the new values in the old order
    grown = np.einsum("ik,ij,kj->k", u, made, vt) / s
    assert np.array_equal(np.argsort(grown), np.argsort(-s * measured))
    assert np.allclose(np.diag(u.T @ made @ vt.T), grown * s)


@pytest.mark.parametrize("measured", [np.zeros(8), normal(8)])
def test_controls(measured: np.ndarray) -> None:
    update = normal(12, 8)
    strength = 0 if measured.any() else 1
    made = of(f"spectral-surgery:strength={strength}", update, statistics={"sensitivity": measured})
    assert made is update
    outside = a_label("model.embed_tokens.weight", (12, 8), layer=None, component="embedding")
    assert of("spectral-surgery", update, label=outside) is update


def test_experts_have_sensitivities_of_their_own() -> None:
    update, measured = normal(2, 12, 8), normal(2, 8)
    label = a_label("model.layers.0.mlp.experts.down_proj", (2, 12, 8), component="experts")
    made = of("spectral-surgery", update, label=label, statistics={"sensitivity": measured})
    each = [
        of("spectral-surgery", update[i], statistics={"sensitivity": measured[i]}) for i in (0, 1)
    ]
    assert np.array_equal(made, np.stack(each))
