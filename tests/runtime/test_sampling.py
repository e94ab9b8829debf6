"""Draws against transformers' own warpers, over a grid of uniforms instead of chance."""

import numpy as np
import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from taia.runtime.generation import Generation
from taia.runtime.sampling import choose

SIZE = 12
GRID = 2000


def request(**options):
    return Generation("base", (1,), 1, **options)


def logits(rows=1, scale=2.0):
    return torch.randn(rows, SIZE, generator=torch.Generator().manual_seed(4)) * scale


def shares(row, asked):
    """Part of evenly spread uniforms that lead to each token."""
    uniforms = [(place + 0.5) / GRID for place in range(GRID)]
    tokens = choose(row.expand(GRID, -1), [asked] * GRID, uniforms)
    return torch.bincount(torch.tensor([token.id for token in tokens]), minlength=SIZE) / GRID


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("top_k", [0, 3, 50])
@pytest.mark.parametrize("top_p", [0.3, 0.9, 1.0])
def test_each_token_as_often_as_transformers_would(temperature, top_k, top_p):
    row = logits()
    warped = TemperatureLogitsWarper(temperature)(None, row)
    if top_k:
        warped = TopKLogitsWarper(top_k)(None, warped)
    if top_p < 1:
        warped = TopPLogitsWarper(top_p)(None, warped)
    expected = warped.softmax(-1)[0]
    found = shares(row, request(temperature=temperature, top_k=top_k, top_p=top_p))
    assert (found - expected).abs().max() <= 1.5 / GRID
    assert torch.equal(found > 1.5 / GRID, expected > 3 / GRID) or temperature < 1


def test_rows_are_apart():
    """Each row with its own options, whatever stands beside it."""
    rows = logits(6)
    asked = [
        request(),
        request(temperature=0.7),
        request(temperature=2.0, top_k=2),
        request(logit_bias={3: 50}),
        request(temperature=1.0, top_p=0.5, logprobs=2),
        request(logprobs=0, logit_bias={0: -50.0}),
    ]
    uniforms = [0.1, 0.9, 0.6, 0.3, 0.4, 0.8]
    together = choose(rows, asked, uniforms)
    each = [choose(rows[i : i + 1], [asked[i]], [uniforms[i]])[0] for i in range(6)]
    assert together == each
    assert together[0].id == int(rows[0].argmax())
    assert together[3].id == 3
    assert [len(token.alternatives) for token in together] == [0, 0, 0, 0, 2, 0]
    assert [token.logprob is None for token in together] == [True] * 4 + [False] * 2


def test_log_probabilities_are_before_the_bias():
    row = logits()
    [token] = choose(row, [request(logit_bias={5: 99.0}, logprobs=SIZE + 5)], [0.0])
    logs = row.log_softmax(-1)[0]
    assert token.id == 5
    assert token.logprob == pytest.approx(float(logs[5]))
    assert [index for index, _ in token.alternatives] == logs.argsort(descending=True).tolist()


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-53])
def test_extremes(uniform):
    row = logits()
    best = int(row.argmax())
    for asked in (
        request(temperature=1e-30),
        request(temperature=1e30, top_k=1),
        request(temperature=5.0, top_p=1e-9),
    ):
        assert choose(row, [asked], [uniform])[0].id == best
    # What the model rules out is never drawn, not even at the end of the range.
    row[0, 1:] = -torch.inf
    assert choose(row, [request(temperature=1.0)], [uniform])[0].id == 0
    assert row.isinf().sum() == SIZE - 1


def test_the_logits_stay_as_they_are():
    row = logits()
    before = row.clone()
    choose(row, [request(logit_bias={1: 5.0}, temperature=1.0)], [0.5])
    assert torch.equal(row, before)


def among_all(row, asked, uniform):
    """The tokens that a draw may be, by sorting everything in double precision.

    More than one only where the uniform lies on the edge between them.
    """
    size = len(row)
    order = np.lexsort((np.arange(size), -row))
    scaled = (row[order] - row[order][0]) / asked.temperature
    weights = np.exp(scaled)
    weights[asked.top_k or size :] = 0
    likely = weights / weights.sum()
    likely[np.cumsum(likely) - likely >= asked.top_p] = 0
    passed = np.cumsum(likely) / likely.sum()
    return {
        int(order[np.searchsorted(passed, min(u, 1 - 1e-9), side="right")])
        for u in (max(0, uniform - 1e-5), uniform, uniform + 1e-5)
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [0.1, 3.0, 8.0])
@pytest.mark.parametrize(
    "options",
    [{}, {"top_k": 1}, {"top_k": 256}, {"top_k": 700}, {"top_p": 0.9}, {"top_p": 0.3, "top_k": 40}],
    ids=str,
)
def test_a_vocabulary_of_thousands_is_drawn_from_as_if_all_of_it_were_sorted(dtype, scale, options):
    """Flat rows, whose likeliest few decide nothing, and steep ones; in bfloat16 full of equals."""
    rows = torch.randn(200, 3000, generator=torch.Generator().manual_seed(6)) * scale
    rows = rows.to(dtype)
    asked = request(temperature=0.9, **options)
    uniforms = [place / 200 for place in range(200)]
    found = choose(rows, [asked] * 200, uniforms)
    for row, token, uniform in zip(rows.double().numpy(), found, uniforms, strict=True):
        assert token.id in among_all(row, asked, uniform)
    each = [choose(rows[i : i + 1], [asked], [uniforms[i]])[0] for i in range(0, 200, 25)]
    assert each == found[::25]
