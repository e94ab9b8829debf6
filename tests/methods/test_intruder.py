"""Intruder reduction: against the formula in torch; PEFT's own is the oracle for adapters."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from methods_given import normal, of


def in_torch(weight, update, top_k: int, threshold: float, scale: float) -> np.ndarray:
    base, tuned = (torch.from_numpy(x).double() for x in (weight, weight + update))
    known = torch.linalg.svd(base, full_matrices=False).U
    u, s, vh = torch.linalg.svd(tuned, full_matrices=False)
    for i in range(min(top_k, len(s))):
        if max(abs(torch.dot(u[:, i], known[:, j])) for j in range(known.shape[1])) < threshold:
            tuned = tuned - (1 - scale) * s[i] * torch.outer(u[:, i], vh[i])
    return (tuned - base).numpy()


@pytest.mark.parametrize("shape", [(20, 12), (12, 20), (16, 16)])
@pytest.mark.parametrize("method", ["top_k=10,threshold=0.5", "top_k=2,threshold=0.9,scale=0"])
def test_intruders_are_weakened(shape: tuple[int, int], method: str) -> None:
    # a tall matrix's left singular vectors are no basis: new directions are unlike all of them
    weight = normal(*shape, dtype=np.float64)
    update = 9 * np.outer(normal(shape[0], seed=4), normal(shape[1], seed=5)).astype(np.float64)
    values = {"scale": 0.75, **{k: float(v) for k, v in (p.split("=") for p in method.split(","))}}
    wanted = in_torch(weight, update, int(values["top_k"]), values["threshold"], values["scale"])
    made = of(f"intruder:{method}", update, weight)
    assert np.allclose(made, wanted, atol=1e-9)
    assert not np.allclose(wanted, update) or shape != (20, 12)


@pytest.mark.parametrize("shape", [(20, 12), (12, 20)])
@pytest.mark.parametrize("rank", [0, 3])
def test_a_base_of_low_rank_is_no_trouble(shape: tuple[int, int], rank: int) -> None:
    weight = normal(shape[0], rank) @ normal(rank, shape[1], seed=5)
    update = normal(*shape, seed=4)
    made = of("intruder:threshold=1,scale=0", update, weight)
    assert np.isfinite(made).all()
    # ten of twelve directions are gone
    assert np.linalg.matrix_rank(weight + made, tol=1e-3) == 2


def test_controls() -> None:
    weight, update = normal(20, 12), 9 * normal(20, 12, seed=4)
    assert of("intruder:threshold=1,scale=1", update, weight) is update
    assert of("intruder:threshold=0", update, weight) is update
    assert of("intruder", update, 1000 * normal(20, 12)) is update  # as good as no update
    gone = of("intruder:threshold=1,scale=0,top_k=12", update, weight)
    assert np.allclose(weight + gone, 0, atol=1e-4)
    vector = normal(20)
    assert of("intruder:threshold=1,scale=0", vector, normal(20)) is vector
