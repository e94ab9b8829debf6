"""Likelihoods for which each prompt runs once, and its continuations go on from its cache.

What all prompts begin with runs once, the rest of each prompt once, and the continuations go on
from its keys and values. Prompts of like lengths run together, padded on the left of what is their
own, where a model can be told positions and no layer's attention has a window, which counts
columns; else those of one length. The continuations of a prompt share a row where the model takes
a mask for it, else each has a row of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TypeVar

import torch

from taia.runtime.packing import Longer, Pack, packed, run_packs, size
from taia.runtime.prefix import Prefix, common
from taia.runtime.rating import Likelihood, Rater, Request, rate

T = TypeVar("T")


def shared(
    rater: Rater, requests: Sequence[Request], found: list[list[Likelihood]]
) -> Iterator[int]:
    """Each prompt once; its options continue its cache."""
    head = common([request.prompt for request in requests])
    start = Prefix.of(rater.forward, head)
    for batch in _prompts(rater, requests, start):
        rests = [requests[index].prompt[len(head) :] for index in batch]
        longest = len(rests[-1])
        padding = [longest - len(rest) for rest in rests]
        before = start.rows([0] * len(batch))._replace(padding=torch.tensor(padding))
        ids = torch.tensor([(0,) * (longest - len(rest)) + rest for rest in rests])
        last, cache = before.run(rater.forward, ids, 1)
        longer = _first_tokens(requests, batch, last[:, 0], found)
        after = before._replace(cache=cache, width=before.width + longest)
        for packs in _packs(rater, longer, after):
            _continue(rater, packs, after, found)
        yield len(batch)


def _prompts(rater: Rater, requests: Sequence[Request], start: Prefix) -> Iterator[list[int]]:
    """Requests whose prompts run together, shorter ones first."""
    lengths = [len(request.prompt) - start.width for request in requests]

    def fits(rows: int, width: int, padding: int) -> bool:
        return (
            rows * width <= rater.batch_tokens
            and (not padding or (rater.pads and not rater.wastes(padding, rows * width)))
            and rows <= rater.rows_that_fit(start.cache, start.width + width)
        )

    yield from _batches(list(range(len(requests))), lengths.__getitem__, fits)


def _first_tokens(
    requests: Sequence[Request],
    indices: Sequence[int],
    last: torch.Tensor,
    found: list[list[Likelihood]],
) -> list[Longer]:
    """Take the options' first tokens from what ``last`` ``[rows, vocabulary]`` predicts.

    Returns:
        The options that have more tokens.
    """
    each = [
        Longer(row, index, number, option)
        for row, index in enumerate(indices)
        for number, option in enumerate(requests[index].options)
    ]
    rows = torch.tensor([one.row for one in each], device=last.device)
    tokens = torch.tensor([one.option[0] for one in each], device=last.device)
    logs, greedy = last.float().log_softmax(-1), last.argmax(-1)
    rated = zip(logs[rows, tokens].tolist(), (greedy[rows] == tokens).tolist(), strict=True)
    for one, likelihood in zip(each, rated, strict=True):
        found[one.request][one.number] = Likelihood(*likelihood)
    return [one for one in each if len(one.option) > 1]


def _packs(rater: Rater, longer: Sequence[Longer], after: Prefix) -> Iterator[list[Pack]]:
    """Rows whose padded tokens, and copies of their prompts, are not too many."""
    several = any(one.row == other.row for one, other in pairwise(longer))
    together = several and rater.packs
    packs = [*packed(longer, rater.batch_labels)] if together else [[one] for one in longer]

    def fits(rows: int, width: int, padding: int) -> bool:
        return (
            rows * width <= rater.batch_labels
            and not rater.wastes(padding, rows * width)
            and rows <= rater.rows_that_fit(after.cache, after.width + width)
        )

    yield from _batches(packs, size, fits)


def _batches(
    rows: Sequence[T], width: Callable[[T], int], fits: Callable[[int, int, int], bool]
) -> Iterator[list[T]]:
    """Rows that run together, narrow ones first; one that fits nowhere runs alone.

    Args:
        rows: Any.
        width: How many tokens one is.
        fits: Whether so many rows, padded to so many tokens, may run with so much padding.
    """
    batch: list[T] = []
    tokens = 0
    for row in sorted(rows, key=width):
        tokens += width(row)
        count = len(batch) + 1
        if batch and not fits(count, width(row), count * width(row) - tokens):
            yield batch
            batch, tokens = [], width(row)
        batch.append(row)
    if batch:
        yield batch


def _continue(
    rater: Rater, packs: list[Pack], after: Prefix, found: list[list[Likelihood]]
) -> None:
    """Add the options' tokens after their first, run after the prompts' cache."""
    packs = sorted(packs, key=lambda pack: pack[0].row)
    before = after.rows([pack[0].row for pack in packs])
    logits, places = run_packs(rater.forward, packs, before)
    longer = [one for pack in packs for one in pack]
    rated = rate(logits, places, [one.option[1:] for one in longer])
    for one, rest in zip(longer, rated, strict=True):
        first = found[one.request][one.number]
        found[one.request][one.number] = Likelihood(
            first.logprob + rest.logprob, first.is_greedy and rest.is_greedy
        )
