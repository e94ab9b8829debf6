"""A scale for each row of a batch, where PEFT has one scale for all."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from taia.errors import AdapterError


class RowScales:
    """What a layer's update is multiplied by, when each row is in a mode of its own.

    PEFT calculates ``result + update * scaling``. With one of these as the scaling the rows of a
    mode get what they would get alone: the same product with the same number, not one with a
    tensor of another dtype. Where a row's scale is 0 the update becomes −0.0, which added to any
    number leaves its every bit; 0.0 would make 0.0 of −0.0, and a product would make NaN of an
    update that is not finite.

    Attributes:
        values: Scale by row, at least one not 0.
    """

    def __init__(self, values: Sequence[float]) -> None:
        self.values = tuple(values)
        self._masks: dict[torch.device, list[tuple[float, torch.Tensor]]] = {}

    def __rmul__(self, update: torch.Tensor) -> torch.Tensor:
        """The update, row by row.

        Args:
            update: ``[rows, …]``; or ``[rows · tokens, …]`` where a model has flattened the two.
        """
        each, over = divmod(update.shape[0], len(self.values))
        if over:
            raise AdapterError(
                f"A layer's input has {update.shape[0]} rows or tokens, for modes of "
                f"{len(self.values)} rows.",
                "This model does not keep the rows of a batch apart: use one mode a batch.",
            )
        product: torch.Tensor | None = None
        for scale, mask in self._by_scale(update.device):
            rows = mask.repeat_interleave(each) if each > 1 else mask
            rows = rows.view(-1, *(1 for _ in update.shape[1:]))
            product = torch.where(rows, update * scale, -0.0 if product is None else product)
        assert product is not None
        return product

    def _by_scale(self, device: torch.device) -> list[tuple[float, torch.Tensor]]:
        """Each scale but 0, and which rows have it."""
        if device not in self._masks:
            self._masks[device] = [
                (scale, torch.tensor([value == scale for value in self.values], device=device))
                for scale in dict.fromkeys(self.values)
                if scale
            ]
        return self._masks[device]
