"""A layer's keys and values, with room for more of them.

transformers' own layer copies all keys and values at each token, and again for each row that comes
or goes. This one copies what is new, and everything only when the room is used up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from transformers.cache_utils import DynamicLayer

#: Columns that are free after the room was used up, at least.
_SPARE: Final = 64


class Columns:
    """States ``[rows, heads, columns, width]``, a part of a larger tensor.

    Columns are added at the right, and padding at the left. What lies around the states is finite,
    as a weight of 0 does not hide an infinity.
    """

    def __init__(self, states: torch.Tensor) -> None:
        self._room = states
        self._rows, self._start, self._end = states.shape[0], 0, states.shape[2]

    @property
    def states(self) -> torch.Tensor:
        """The states, without a copy."""
        return self._room[: self._rows, :, self._start : self._end]

    def append(self, states: torch.Tensor) -> None:
        """Add columns at the right."""
        new = states.shape[2]
        if self._end + new > self._room.shape[2]:
            width = self._end - self._start + new
            self._move(self._room.shape[0], 0, width + max(_SPARE, width // 4))
        self._room[: self._rows, :, self._end : self._end + new] = states
        self._end += new

    def widen(self, columns: int) -> None:
        """Add columns of padding at the left; a negative number takes them away."""
        if columns > self._start:
            self._move(self._room.shape[0], columns, self._room.shape[2] + columns)
        self._start -= columns

    def keep(self, count: int, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Keep the first rows, after copying some rows over others."""
        if sources:
            index = torch.tensor([sources, targets], device=self._room.device)
            self._room[index[1]] = self._room[index[0]]
        self._rows = count

    def join(self, other: Columns) -> None:
        """Add rows that are equally wide."""
        rows = self._rows + other._rows
        if rows > self._room.shape[0]:
            more = max(rows, self._room.shape[0] * 3 // 2)
            self._move(more, self._start, self._room.shape[2])
        self._room[self._rows : rows, :, self._start : self._end] = other.states
        self._rows = rows

    def _move(self, rows: int, start: int, columns: int) -> None:
        """Into a larger tensor, with the first column at ``start``."""
        _, heads, _, width = self._room.shape
        room = self._room.new_zeros(rows, heads, columns, width)
        end = start + self._end - self._start
        room[: self._rows, :, start:end] = self.states
        self._room, self._start, self._end = room, start, end


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """A cache's layer whose rows and columns come and go."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._both: tuple[Columns, ...] = ()

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        *args: Any,  # noqa: ANN401 - the base class's signature
        **kwargs: Any,  # noqa: ANN401
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add columns; all keys and values."""
        if self._both:
            for mine, new in zip(self._both, (key_states, value_states), strict=True):
                mine.append(new)
        else:
            self.lazy_initialization(key_states, value_states)
            self._both = (Columns(key_states), Columns(value_states))
        return self._show()

    def widen(self, columns: int) -> None:
        """See :class:`Columns`."""
        for mine in self._both:
            mine.widen(columns)
        self._show()

    def keep(self, count: int, sources: Sequence[int], targets: Sequence[int]) -> None:
        """See :class:`Columns`."""
        for mine in self._both:
            mine.keep(count, sources, targets)
        self._show()

    def join(self, other: RoomyLayer) -> None:
        """See :class:`Columns`."""
        for mine, its in zip(self._both, other._both, strict=True):
            mine.join(its)
        self._show()

    def _show(self) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = (mine.states for mine in self._both)
        self.keys, self.values = keys, values
        return keys, values
