"""What a trainer takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from taia.training.data.facts import Facts
from taia.training.data.mixing import Indices, run_order
from taia.training.data.options import DataOptions

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class PreparedData:
    """Data that a trainer takes.

    Attributes:
        train: Columns ``input_ids`` and ``completion_mask`` (1 where the loss counts), and
            ``seq_lengths`` where rows are packed. In the order in which the first epoch goes
            through it.
        validation: The same columns, never packed; ``None`` if nothing is held out.
        facts: What became of the rows.
        options: As they were given.
        lanes: Per lane (see :func:`taia.training.data.mixing.run_order`), where its examples are
            in ``train``.
    """

    train: Dataset
    validation: Dataset | None
    facts: Facts
    options: DataOptions
    lanes: tuple[Indices, ...]

    def epoch_order(self, epoch: int, epochs: int | None = None) -> list[int]:
        """Which examples an epoch goes through, in order.

        Args:
            epoch: Its number, from 0.
            epochs: How many the run has. A mixing schedule then extends over the whole run, so
                that an epoch is a part of it and need not hold every example once. Without it, or
                with uniform mixing, every epoch does.

        Returns:
            Indices into ``train``, as many as it has examples.
        """
        order = run_order(
            list(map(len, self.lanes)),
            self.options.mixing,
            range(epochs) if epochs else [epoch],
            self.options.seed,
        )
        if epochs:
            order = order[epoch * len(self.train) : (epoch + 1) * len(self.train)]
        places: list[int] = np.concatenate(self.lanes)[order].tolist()
        return places
