"""What can be said about data, apart from where it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from taia.errors import DataError
from taia.training.recipe import Mixing


@dataclass(frozen=True)
class DataOptions:
    """How rows become what is trained on.

    Attributes:
        max_length: Tokens of a row, at most; with packing, of a pack.
        truncation: A longer row is cut at its end, or dropped. A row that nothing to learn is left
            of is dropped in any case.
        packing: Put several rows into one example; none sees another.
        train_on_prompt: The loss counts every token, not the answers alone.
        validation: Held out from training: a share of the rows (between 0 and 1), a number of
            rows, or a source of its own.
        max_samples: At most so many rows are trained on, of all sources together.
        mixing: How sources follow one another.
        format: The format of every source, if it is not to be told from the keys.
        on_bad_row: Stop at rows that cannot be used, or skip them.
        seed: Of every choice and every shuffle.
    """

    max_length: int = 3072
    truncation: Literal["cut", "drop"] = "cut"
    packing: bool = False
    train_on_prompt: bool = False
    validation: float | int | str | None = None
    max_samples: int | None = None
    mixing: Mixing = "uniform"
    format: str | None = None
    on_bad_row: Literal["stop", "skip"] = "stop"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            DataError: If one is out of range.
        """
        if self.max_length < 2:
            raise DataError("max_length is less than 2 tokens.", "Give at least 2.")
        if self.max_samples is not None and self.max_samples < 1:
            raise DataError("max_samples is less than 1.", "Give at least 1, or leave it out.")
        held_out = self.validation
        if isinstance(held_out, str) or held_out is None:
            return
        if held_out <= 0 or (held_out >= 1 and held_out != int(held_out)):
            raise DataError(
                f"validation={held_out} is neither a share nor a number of rows.",
                "Give a share between 0 and 1, a number of rows, or a file.",
            )
        if isinstance(held_out, float) and held_out >= 1:
            raise DataError(
                f"validation={held_out} could be all rows or {held_out:.0f}.",
                "Give a share below 1, or a whole number without a point.",
            )
