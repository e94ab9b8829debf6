"""A scale for each row of a batch, where PEFT has one scale for all."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch

from taia.errors import AdapterError


class RowScales:
    """What a layer's update is multiplied by, when each row is in a mode of its own.

    PEFT calculates ``result + update * scaling``. With one of these as the scaling the rows of a
    mode get what they would get alone: the same product with the same number, not one with a
    tensor of another dtype. Where a row's scale is 0 the update becomes −0.0, which added to any
    number leaves its every bit; 0.0 would make 0.0 of −0.0, and a product would make NaN of an
    update that is not finite.

    Rows of one scale that follow each other are multiplied together, and rows whose scale is 0 are
    not read: an update is as wide as the feed-forward block, and passing over it takes longer than
    the product that made it.

    Attributes:
        values: Scale by row, at least one not 0.
    """

    def __init__(self, values: Sequence[float]) -> None:
        self.values = tuple(values)
        self._runs = [(scale, len([*rows])) for scale, rows in groupby(self.values)]

    def __rmul__(self, update: torch.Tensor) -> torch.Tensor:
        """The update, row by row.

        Args:
            update: ``[rows, …]``; or ``[rows · tokens, …]`` where a model has flattened the two.

        Raises:
            AdapterError: If the rows cannot be told apart.
        """
        each, over = divmod(update.shape[0], len(self.values))
        if over:
            raise AdapterError(
                f"A layer's input has {update.shape[0]} rows or tokens, for modes of "
                f"{len(self.values)} rows.",
                "This model does not keep the rows of a batch apart: use one mode a batch.",
            )
        sizes = [rows * each for _, rows in self._runs]
        scales = [scale for scale, _ in self._runs]
        parts = zip(scales, torch.split(update, sizes), strict=True)
        if torch.is_grad_enabled():
            return torch.cat(
                [part * scale if scale else torch.full_like(part, -0.0) for scale, part in parts]
            )
        product = torch.empty_like(update)
        for (scale, part), place in zip(parts, torch.split(product, sizes), strict=True):
            if scale:
                torch.mul(part, scale, out=place)
            else:
                place.fill_(-0.0)
        return product
