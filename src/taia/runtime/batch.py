"""Rows that run together: their tokens, their padding and their cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from taia.runtime.answer import Answer
from taia.runtime.caches import cache_of, states_of
from taia.runtime.columns import RoomyLayer
from taia.runtime.forward import Forward
from taia.runtime.heads import Heads


class Batch(Protocol):
    """Answers whose next tokens come from one forward."""

    answers: list[Answer]

    @property
    def modes(self) -> list[str]:
        """The mode of each row."""
        return [answer.request.mode for answer in self.answers]

    def forward(self) -> torch.Tensor:
        """Run what has not run of every row; logits ``[rows, vocabulary]`` of what follows."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all other rows."""
        ...


class Padded(Batch):
    """Rows of different lengths in one cache of keys and values, padded on the left.

    The cache has every layer whole, also where attention has a window: the mask cuts the window,
    and only so do rows that are padded differently fit together.

    Args:
        forward: The model's.
        answers: Whose rows they are, in order.
        heads: What all prompts begin with; it runs once in each mode, and not here.

    Attributes:
        answers: As given.
        cache: The keys and values.
    """

    def __init__(self, forward: Forward, answers: Sequence[Answer], heads: Heads) -> None:
        self.answers = list(answers)
        self._forward = forward
        lengths = [len(answer.request.prompt) for answer in answers]
        self._padding = [max(lengths) - length for length in lengths]
        self.cache = heads.before(self.modes, self._padding)
        self._width = len(heads.tokens)
        self._has_run = False

    def forward(self) -> torch.Tensor:
        """The prompts at first, then each row's newest token."""
        if self._has_run:
            ids = torch.tensor([[answer.last] for answer in self.answers])
        else:
            ids = self._prompts()[:, self._width :]
        device = self._forward.device
        new = ids.shape[1]
        mask = positions = None
        if any(self._padding) or self._forward.takes_positions:
            padding = torch.tensor(self._padding, device=device)[:, None]
            columns = torch.arange(self._width + new, device=device)
            if any(self._padding):
                mask = (columns >= padding).long()
            if self._forward.takes_positions:
                positions = (columns[self._width :] - padding).clamp(min=0)
        logits, _ = self._forward(
            ids,
            1,
            attention_mask=mask,
            position_ids=positions,
            cache=self.cache,
            use_cache=True,
        )
        self._width += new
        self._has_run = True
        return logits[:, -1]

    def _prompts(self) -> torch.Tensor:
        rows = zip(self._padding, self.answers, strict=True)
        return torch.tensor([(0,) * padding + a.request.prompt for padding, a in rows])

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all other rows, and the columns that are padding in all that stay.

        The last rows move into the holes.
        """
        count = len(rows)
        holes = sorted(set(range(count)).difference(rows))
        movers = [row for row in rows if row >= count]
        for hole, mover in zip(holes, movers, strict=True):
            self.answers[hole] = self.answers[mover]
            self._padding[hole] = self._padding[mover]
        del self.answers[count:], self._padding[count:]
        for layer in self._layers():
            layer.keep(count, movers, holes)
        self._widen(self._width - min(self._padding, default=0))

    def join(self, other: Padded) -> None:
        """Take the rows of another batch, which has run."""
        width = max(self._width, other._width)
        self._widen(width)
        other._widen(width)
        self.answers += other.answers
        self._padding += other._padding
        for mine, its in zip(self._layers(), other._layers(), strict=True):
            mine.join(its)

    def _widen(self, width: int) -> None:
        """More or fewer columns of padding."""
        extra = width - self._width
        if extra:
            self._width = width
            self._padding = [padding + extra for padding in self._padding]
            for layer in self._layers():
                layer.widen(extra)

    def _layers(self) -> list[RoomyLayer]:
        return [layer for layer in self.cache.layers if isinstance(layer, RoomyLayer)]


class Single(Batch):
    """One row, with whatever state its architecture goes on from."""

    def __init__(self, forward: Forward, answer: Answer) -> None:
        self.answers = [answer]
        self._forward = forward
        self._state: dict[str, Any] = {}
        self._ids = list(answer.request.prompt)
        self._has_run = False

    def forward(self) -> torch.Tensor:
        """The prompt at first, then the newest token; everything again where there is no state."""
        if self._has_run:
            self._ids.append(self.answers[0].last)
        ids = torch.tensor([self._ids[-1:] if self._state else self._ids])
        logits, out = self._forward(ids, 1, use_cache=True, **self._state)
        self._state = states_of(out)
        if (cache := cache_of(out)) is not None:
            self._state["cache"] = cache
        self._has_run = True
        return logits[:, -1]

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all other rows."""
        self.answers = [self.answers[row] for row in rows]
