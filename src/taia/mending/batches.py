"""Examples that run together: one after another by length, within a budget of tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from taia.mending.examples import Example


@dataclass(frozen=True, slots=True, eq=False)
class ExampleBatch:
    """Examples that run together, a row each, padded on the right, which nothing before it sees.

    Attributes:
        examples: The place of each row's example among those given.
        ids: ``[rows, longest]``, of which padding is 0.
        rows: ``[counted]``, the row of each token that counts, in order.
        columns: ``[counted]``, the column that predicts it, which is the one before.
        targets: ``[counted]``, the tokens that count.
    """

    examples: tuple[int, ...]
    ids: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    targets: torch.Tensor

    def sums(self, each: torch.Tensor) -> torch.Tensor:
        """``[counted]`` → ``[rows]``: what each token has, added up by example, in float64."""
        sums = torch.zeros(len(self.examples), dtype=torch.float64, device=each.device)
        return sums.index_add(0, self.rows.to(each.device), each.double())


def batch_of(examples: Sequence[Example], which: Sequence[int]) -> ExampleBatch:
    """Some examples, by their places, as one batch."""
    chosen = [examples[index] for index in which]
    ids = torch.zeros(len(chosen), max(len(each.ids) for each in chosen), dtype=torch.long)
    counted: list[tuple[int, int]] = []
    for row, each in enumerate(chosen):
        ids[row, : len(each.ids)] = torch.tensor(each.ids)
        counted += [(row, place) for place in each.counted]
    rows, places = torch.tensor(counted).T
    return ExampleBatch(tuple(which), ids, rows, places - 1, ids[rows, places])


def batched(
    examples: Sequence[Example],
    tokens: int,
    labels: int,
    which: Iterable[int] | None = None,
) -> Iterator[ExampleBatch]:
    """Batches of examples of like lengths, the longest first.

    Args:
        examples: All examples.
        tokens: How many tokens may run together, padding too.
        labels: How many tokens may count in a batch: each takes as many numbers as the vocabulary
            is large.
        which: The places of those wanted; None for all. An example that is too large by itself is
            a batch all the same.
    """
    wanted = range(len(examples)) if which is None else which
    order = sorted(wanted, key=lambda index: (-len(examples[index].ids), index))
    batch: list[int] = []
    counted = 0
    for index in order:
        each = len(examples[index].counted)
        longest = len(examples[batch[0]].ids) if batch else 0
        if batch and ((len(batch) + 1) * longest > tokens or counted + each > labels):
            yield batch_of(examples, batch)
            batch, counted = [], 0
        batch.append(index)
        counted += each
    if batch:
        yield batch_of(examples, batch)
