"""Effective ranks, against decompositions and spectra that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from taia.analysis.spectrum import effective_rank, of_matrices, of_product


def entropy_rank(matrix: np.ndarray) -> float:
    singular = np.linalg.svd(matrix.astype(np.float64), compute_uv=False)
    shares = singular / singular.sum()
    shares = shares[shares > 1e-12]
    return math.exp(-sum(share * math.log(share) for share in shares))


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_like_values_count_each_and_one_that_towers_counts_alone():
    assert effective_rank(np.full(5, 3.0)) == pytest.approx(5)
    assert effective_rank(np.array([1.0, 1e-9, 0.0])) == pytest.approx(1, abs=1e-6)
    assert effective_rank(np.zeros(4)) == effective_rank(np.array([])) == 0
    # H of (3/4, 1/4)
    assert effective_rank(np.array([3.0, 1.0])) == pytest.approx(4 / 3**0.75)


@given(st.floats(0.01, 100), arrays.arrays(np.float64, 6, elements=st.floats(0.01, 10)))
def test_neither_scale_nor_order_matters(scale, values):
    wanted = effective_rank(values)
    assert effective_rank(scale * values[::-1]) == pytest.approx(wanted)
    assert 1 <= wanted <= 6 + 1e-9


@pytest.mark.parametrize("shape", [(8, 20), (20, 8), (7, 7), (1, 9)])
def test_a_matrix_is_decomposed(shape):
    matrix = random(*shape)
    assert [*of_matrices(matrix)] == pytest.approx([entropy_rank(matrix)], rel=1e-6)


def test_directions_that_are_not_there_do_not_count():
    low = random(40, 3) @ random(3, 30, seed=1).astype(np.float64)
    assert [*of_matrices(low)] == pytest.approx([entropy_rank(low)], rel=1e-6)
    assert [*of_matrices(np.zeros((4, 5)))] == [0]


def test_a_stack_has_one_of_each_and_a_vector_none():
    stack = random(3, 6, 4)
    assert [*of_matrices(stack)] == pytest.approx([entropy_rank(m) for m in stack], rel=1e-6)
    assert [*of_matrices(random(6))] == []


@pytest.mark.parametrize(("outputs", "rank", "inputs"), [(30, 4, 12), (3, 4, 12), (30, 4, 2)])
def test_a_product_is_not_formed(outputs, rank, inputs):
    a, b = random(rank, inputs), random(outputs, rank, seed=1)
    whole = b.astype(np.float64) @ a
    assert of_product(a, b) == pytest.approx(entropy_rank(whole), rel=1e-6)
    assert of_product(a, 0 * b) == 0


def test_a_product_of_like_factors_has_one_direction():
    column, row = random(9, 1), random(1, 7)
    assert of_product(np.repeat(row, 5, 0), np.repeat(column, 5, 1)) == pytest.approx(1)
