"""Rows that run together: their tokens, their padding and their cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch

from taia.runtime.answer import Answer
from taia.runtime.forward import STATES, Forward

if TYPE_CHECKING:
    from transformers import DynamicCache


class Batch(Protocol):
    """Answers whose next tokens come from one forward."""

    answers: list[Answer]

    def forward(self) -> torch.Tensor:
        """Run what has not run of every row; logits ``[rows, vocabulary]`` of what follows."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all other rows."""
        ...


class Padded:
    """Rows of different lengths in one cache of keys and values, padded on the left.

    The cache has every layer whole, also where attention has a window: the mask cuts the window,
    and only so do rows that are padded differently fit together.
    """

    def __init__(self, forward: Forward, answers: Sequence[Answer]) -> None:
        from transformers import DynamicCache

        self.answers = list(answers)
        self._forward = forward
        self._cache: DynamicCache = DynamicCache()
        self._width = 0
        self._padding = [0] * len(self.answers)

    def forward(self) -> torch.Tensor:
        """The prompts at first, then each row's newest token."""
        if self._width:
            ids = torch.tensor([[answer.last] for answer in self.answers])
        else:
            ids = self._prompts()
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
            past_key_values=self._cache,
            use_cache=True,
        )
        self._width += new
        return logits[:, -1]

    def _prompts(self) -> torch.Tensor:
        prompts = [answer.request.prompt for answer in self.answers]
        width = max(map(len, prompts))
        self._padding = [width - len(prompt) for prompt in prompts]
        return torch.tensor(
            [
                (0,) * padding + prompt
                for padding, prompt in zip(self._padding, prompts, strict=True)
            ]
        )

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all other rows, and the columns that are padding in all that stay."""
        self.answers = [self.answers[row] for row in rows]
        self._padding = [self._padding[row] for row in rows]
        spare = min(self._padding, default=0)
        index = torch.tensor(rows, dtype=torch.long)
        self._change(lambda states: states[index.to(states.device), :, spare:])
        self._pad(-spare)

    def join(self, other: Padded) -> None:
        """Take the rows of another batch, which has run."""
        width = max(self._width, other._width)
        self._widen(width)
        other._widen(width)
        self.answers += other.answers
        self._padding += other._padding
        for mine, its in zip(self._cache.layers, other._cache.layers, strict=True):
            mine.keys = torch.cat([mine.keys, its.keys])
            mine.values = torch.cat([mine.values, its.values])

    def _widen(self, width: int) -> None:
        extra = width - self._width
        if extra:
            self._change(lambda states: torch.nn.functional.pad(states, (0, 0, extra, 0)))
            self._pad(extra)

    def _pad(self, columns: int) -> None:
        self._width += columns
        self._padding = [padding + columns for padding in self._padding]

    def _change(self, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        for layer in self._cache.layers:
            layer.keys, layer.values = change(layer.keys), change(layer.values)


class Single:
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
        self._state = {name: out[name] for name in STATES if out.get(name) is not None}
        self._has_run = True
        return logits[:, -1]

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all other rows."""
        self.answers = [self.answers[row] for row in rows]
