"""Likelihoods for which each prompt runs once, and its continuations go on from its cache.

What all prompts begin with (few-shot examples, the chat template's head) runs once, the rest of
each prompt once, and the continuations go on from its keys and values. Prompts of like lengths run
together, padded on the left of what is their own, where a model can be told positions and no
layer's attention has a window, which counts columns; else those of one length. A continuation is
padded at its end only.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import torch

from taia.runtime.caches import cache_of
from taia.runtime.forward import Forward
from taia.runtime.rating import Likelihood, Rater, Request, rate

#: Part of a batch of prompts that may be padding; beyond it, two forwards are cheaper than one.
_PADDING: Final = 0.1


class _Context(NamedTuple):
    """What rows go on from.

    Attributes:
        cache: The keys and values.
        head: How many columns all rows have in common.
        padding: ``[rows]``, how many columns after those are padding.
        width: How many columns there are.
    """

    cache: Any
    head: int
    padding: torch.Tensor
    width: int

    def rows(self, rows: Sequence[int]) -> _Context:
        """Some rows, some of them more than once; the cache stays as it is."""
        index = torch.tensor(rows)
        cache = copy.copy(self.cache)
        if cache is not None:
            cache.layers = [copy.copy(layer) for layer in cache.layers]
            cache.batch_select_indices(index.to(cache.layers[0].keys.device))
        return self._replace(cache=cache, padding=self.padding[index])

    def placed(self, new: int) -> dict[str, torch.Tensor]:
        """The mask and the positions of so many more tokens; nothing where no row is padded."""
        if not self.padding.any():
            return {}
        columns, padding = torch.arange(self.width + new), self.padding[:, None]
        mask = (columns < self.head) | (columns >= self.head + padding)
        positions = (columns[self.width :] - padding).clamp(min=0)
        return {"attention_mask": mask.long(), "position_ids": positions}

    def run(self, forward: Forward, ids: torch.Tensor, keep: int) -> tuple[torch.Tensor, Any]:
        """Run tokens ``[rows, new]``; logits ``[rows, keep, vocabulary]`` and the cache after."""
        placed = {k: v.to(forward.device) for k, v in self.placed(ids.shape[1]).items()}
        logits, out = forward(ids, keep, self.cache, use_cache=True, **placed)
        return logits, cache_of(out)


class _Longer(NamedTuple):
    """An option of more than one token: its prompt's row in the cache, and whose it is."""

    row: int
    request: int
    number: int
    option: tuple[int, ...]


def shared(
    rater: Rater, requests: Sequence[Request], found: list[list[Likelihood]]
) -> Iterator[int]:
    """Each prompt once; its options continue its cache."""
    head = _common([request.prompt for request in requests])
    start = _Context(None, 0, torch.zeros(1, dtype=torch.long), 0)
    if head:
        _, cache = start.run(rater.forward, torch.tensor([head]), 1)
        start = start._replace(cache=cache, head=len(head), width=len(head))
    for batch in _prompts(rater, requests, start):
        rests = [requests[index].prompt[len(head) :] for index in batch]
        width = len(rests[-1])
        padding = torch.tensor([width - len(rest) for rest in rests])
        before = start.rows([0] * len(batch))._replace(padding=padding)
        ids = torch.tensor([(0,) * (width - len(rest)) + rest for rest in rests])
        last, cache = before.run(rater.forward, ids, 1)
        longer = _first_tokens(requests, batch, last[:, 0], found)
        after = before._replace(cache=cache, width=before.width + width)
        for part in _options(rater, longer, after):
            _continue(rater.forward, part, after.rows([one.row for one in part]), found)
        yield len(batch)


def _prompts(rater: Rater, requests: Sequence[Request], start: _Context) -> Iterator[list[int]]:
    """Requests whose prompts run together, shorter ones first."""
    lengths = [len(request.prompt) - start.width for request in requests]
    allowed = _PADDING if rater.pads else 0.0
    batch: list[int] = []
    for index in sorted(range(len(requests)), key=lengths.__getitem__):
        length = lengths[index]
        whole = (len(batch) + 1) * length
        padding = whole - length - sum(lengths[other] for other in batch)
        fits = (
            whole <= rater.batch_tokens
            and padding <= allowed * whole
            and len(batch) < rater.rows_that_fit(start.cache, start.width + length)
        )
        if batch and not fits:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _first_tokens(
    requests: Sequence[Request],
    indices: Sequence[int],
    last: torch.Tensor,
    found: list[list[Likelihood]],
) -> list[_Longer]:
    """Take the options' first tokens from what ``last`` ``[rows, vocabulary]`` predicts.

    Returns:
        The options that have more tokens, shorter ones first.
    """
    each = [
        _Longer(row, index, number, option)
        for row, index in enumerate(indices)
        for number, option in enumerate(requests[index].options)
    ]
    rows = torch.tensor([one.row for one in each], device=last.device)
    tokens = torch.tensor([one.option[0] for one in each], device=last.device)
    logs, greedy = last.float().log_softmax(-1), last.argmax(-1)
    rated = zip(logs[rows, tokens].tolist(), (greedy[rows] == tokens).tolist(), strict=True)
    for one, likelihood in zip(each, rated, strict=True):
        found[one.request][one.number] = Likelihood(*likelihood)
    longer = [one for one in each if len(one.option) > 1]
    return sorted(longer, key=lambda one: len(one.option))


def _options(rater: Rater, longer: Sequence[_Longer], after: _Context) -> Iterator[list[_Longer]]:
    """Options in batches whose padded rows, and copies of their prompts, are not too many."""
    batch: list[_Longer] = []
    for one in longer:
        more = len(one.option) - 1
        if batch and (
            (len(batch) + 1) * more > rater.batch_labels
            or len(batch) >= rater.rows_that_fit(after.cache, after.width + more)
        ):
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


def _continue(
    forward: Forward, longer: Sequence[_Longer], after: _Context, found: list[list[Likelihood]]
) -> None:
    """Add the options' tokens after their first, run after the prompts' cache."""
    width = len(longer[-1].option) - 1
    # The pad is any token: it comes after everything that is read.
    ids = torch.zeros(len(longer), width, dtype=torch.long)
    for place, one in enumerate(longer):
        ids[place, : len(one.option) - 1] = torch.tensor(one.option[:-1])
    logits, _ = after.run(forward, ids, width)
    rated = rate(logits, [0] * len(longer), [one.option[1:] for one in longer])
    for one, rest in zip(longer, rated, strict=True):
        first = found[one.request][one.number]
        found[one.request][one.number] = Likelihood(
            first.logprob + rest.logprob, first.is_greedy and rest.is_greedy
        )


def _common(prompts: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """What all prompts begin with, leaving each at least one token."""
    first, last = min(prompts), max(prompts)
    longest = min(len(prompt) for prompt in prompts) - 1
    size = 0
    while size < longest and first[size] == last[size]:
        size += 1
    return first[:size]
