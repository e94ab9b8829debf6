"""What rows go on from: keys and values that they have in common, and their own.

What many prompts begin with (few-shot examples, the chat template's head) runs once. The rest of
each, of unlike lengths, is padded on the left, between what is in common and what is its own.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from taia.runtime.caches import cache_of
from taia.runtime.forward import Forward


class Prefix(NamedTuple):
    """What rows go on from.

    Attributes:
        cache: The keys and values; None where there are none yet.
        head: How many columns all rows have in common.
        padding: ``[rows]``, how many columns after those are padding.
        width: How many columns there are.
    """

    cache: Any
    head: int
    padding: torch.Tensor
    width: int

    @classmethod
    def of(cls, forward: Forward, head: Sequence[int]) -> Prefix:
        """What rows have in common, in one row."""
        start = cls(None, 0, torch.zeros(1, dtype=torch.long), 0)
        if not head:
            return start
        _, cache = start.run(forward, torch.tensor([head]), 1)
        return start._replace(cache=cache, head=len(head), width=len(head))

    def rows(self, rows: Sequence[int]) -> Prefix:
        """Some rows, some of them more than once; the cache stays as it is."""
        index = torch.tensor(rows)
        cache = copy.copy(self.cache)
        if cache is not None:
            cache.layers = [copy.copy(layer) for layer in cache.layers]
            if list(rows) != list(range(len(self.padding))):
                cache.batch_select_indices(index.to(cache.layers[0].keys.device))
        return self._replace(cache=cache, padding=self.padding[index])

    def seen(self, columns: int) -> torch.Tensor:
        """Which of so many columns are no padding: ``[rows, columns]``."""
        place, padding = torch.arange(columns), self.padding[:, None]
        return (place < self.head) | (place >= self.head + padding)

    def placed(self, new: int) -> dict[str, torch.Tensor]:
        """The mask and the positions of so many more tokens; nothing where no row is padded."""
        if not self.padding.any():
            return {}
        positions = torch.arange(self.width, self.width + new) - self.padding[:, None]
        return {
            "attention_mask": self.seen(self.width + new).long(),
            "position_ids": positions.clamp(min=0),
        }

    def run(
        self,
        forward: Forward,
        ids: torch.Tensor,
        keep: int,
        placed: Mapping[str, torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, Any]:
        """Run tokens.

        Args:
            forward: The model's.
            ids: ``[rows, new]``.
            keep: At how many of the last positions logits are wanted.
            placed: Mask and positions, if not each row's tokens one after the other.

        Returns:
            Logits ``[rows, keep, vocabulary]``, and the cache after.
        """
        given = self.placed(ids.shape[1]) if placed is None else placed
        on_device = {name: value.to(forward.device) for name, value in given.items()}
        logits, out = forward(ids, keep, self.cache, use_cache=True, **on_device)
        return logits, cache_of(out)


def common(prompts: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """What all prompts begin with, leaving each at least one token."""
    first, last = min(prompts), max(prompts)
    longest = min(len(prompt) for prompt in prompts) - 1
    size = 0
    while size < longest and first[size] == last[size]:
        size += 1
    return first[:size]
