"""DG-Hard: against what Gavish and Donoho publish, random matrices, and an eigendecomposition."""

from __future__ import annotations

import math

import numpy as np
import pytest

from methods_given import a_label, normal, of
from taia.methods.dg_hard import noise_median, threshold


def test_the_threshold_of_a_square_is_theirs() -> None:
    assert threshold(1) == pytest.approx(4 / math.sqrt(3), abs=1e-14)
    # their title's other constant, for noise of unknown size
    assert threshold(1) / noise_median(1) == pytest.approx(2.858, abs=5e-4)


@pytest.mark.parametrize("beta", np.linspace(0.02, 1, 25))
def test_other_shapes_are_as_their_approximation_says(beta: float) -> None:
    """Their section V: ω(β) ≈ 0.56 β³ − 0.95 β² + 1.82 β + 1.43, within 0.02."""
    about = 0.56 * beta**3 - 0.95 * beta**2 + 1.82 * beta + 1.43
    assert threshold(beta) / noise_median(beta) == pytest.approx(about, abs=0.02)


@pytest.mark.parametrize(("rows", "columns"), [(300, 300), (150, 300), (30, 300)])
def test_the_median_is_that_of_noise(rows: int, columns: int) -> None:
    values = np.linalg.svd(normal(rows, columns, dtype=np.float64), compute_uv=False)
    assert np.median(values) / math.sqrt(columns) == pytest.approx(
        noise_median(rows / columns), rel=0.02
    )


def test_a_square_is_cut_at_2_858_medians() -> None:
    update = normal(64, 64, dtype=np.float64) + 3 * np.outer(normal(64), normal(64, seed=4))
    squares, vectors = np.linalg.eigh(update.T @ update)
    values = np.sqrt(squares)
    kept = vectors[:, values > 2.8582 * np.median(values)]
    assert kept.shape[1] == 1
    assert np.allclose(of("dg-hard", update), update @ kept @ kept.T, atol=1e-10)


@pytest.mark.parametrize("shape", [(80, 60), (60, 80), (3, 80, 60)])
def test_what_was_learnt_is_told_from_noise(shape: tuple[int, ...]) -> None:
    *experts, rows, columns = shape
    learnt = normal(*experts, rows, 4) @ normal(*experts, 4, columns, seed=4)
    update = learnt + 0.1 * normal(*shape, seed=5)
    label = a_label("model.layers.0.mlp.experts.down_proj", shape, component="experts")
    made = of("dg-hard", update, label=label)
    assert set(np.linalg.matrix_rank(made, tol=0.5).reshape(-1)) == {4}
    assert np.linalg.norm(made - learnt) < 0.4 * np.linalg.norm(update - learnt)


def test_a_low_rank_update_is_kept_whole_and_so_is_refused_elsewhere() -> None:
    update = (normal(96, 16) @ normal(16, 64, seed=4)).astype(np.float32)
    made = of("dg-hard", update)
    assert np.allclose(made, update, atol=1e-4 * np.abs(update).max())
    assert np.linalg.matrix_rank(made) == 16


def test_controls() -> None:
    update = normal(64, 64)
    assert of("dg-hard:scale=0", update) is update
    assert not of("dg-hard:scale=100", update).any()
    for kept in (normal(5000), normal(8, 8), normal(2, 40, 40)):  # the last are no experts
        assert of("dg-hard:scale=100", kept) is kept
    biases = a_label("model.layers.0.mlp.experts.up_bias", (64, 64), component="experts")
    assert of("dg-hard:scale=100", update, label=biases) is update
