"""Safe LoRA: against its definition in torch, C formed and applied."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from methods_given import a_label, normal, of


def in_torch(weight, unaligned, update, threshold: float) -> np.ndarray:
    v = torch.from_numpy(weight - unaligned)
    projected = (v @ v.T / torch.linalg.norm(v)) @ torch.from_numpy(update)
    flat = projected.reshape(1, -1), torch.from_numpy(update).reshape(1, -1)
    alike = torch.nn.functional.cosine_similarity(*flat).item()
    return projected.numpy() if alike <= threshold else update


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("shape", [(12, 8), (8, 12)])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.8, 1.0])
def test_it_is_the_definition(shape, threshold: float, turned: bool) -> None:
    weight, unaligned, update = (normal(*shape, seed=i, dtype=np.float64) for i in (1, 2, 3))
    wanted = in_torch(weight, unaligned, update, threshold)
    arrays = [x.T if turned else x for x in (update, weight, unaligned)]
    made = of(
        f"safe-lora:threshold={threshold}",
        *arrays[:2],
        statistics={"unaligned": arrays[2]},
        inputs_first=turned,
    )
    assert np.allclose(made.T if turned else made, wanted, atol=1e-10)


def test_both_answers_occur() -> None:
    weight, unaligned, update = (normal(12, 8, seed=i, dtype=np.float64) for i in (1, 2, 3))
    statistics = {"unaligned": unaligned}
    low = of("safe-lora:threshold=0", update, weight, statistics=statistics)
    high = of("safe-lora:threshold=1", update, weight, statistics=statistics)
    assert low is update
    assert not np.allclose(high, update)


def test_where_alignment_changed_nothing_the_update_is_kept() -> None:
    weight, update = normal(12, 8), normal(12, 8, seed=4)
    assert of("safe-lora:threshold=1", update, weight, statistics={"unaligned": weight}) is update
    outside = a_label("lm_head.weight", (12, 8), layer=None, component="head")
    assert of("safe-lora:threshold=1", update, weight, label=outside) is update
