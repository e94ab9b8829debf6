"""One example, as the model sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from taia.text import printable
from taia.training.data.prepared import PreparedData

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Around what the loss counts, where colour does not tell.
MARKS: Final = ("⟦", "⟧")


def preview(
    example: PreparedData | Mapping[str, Sequence[int]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    marks: bool = False,
) -> Text:
    """Show one example, special tokens and all; what the loss does not count is dim.

    Args:
        example: Prepared data, whose first example is shown, or an example of it. Of a pack, the
            first row.
        tokenizer: The one it was prepared with.
        marks: Put ⟦ and ⟧ around what counts, for output without colour.

    Returns:
        The text, which renders without markup or highlighting.
    """
    row: Mapping[str, Any] = example.train[0] if isinstance(example, PreparedData) else example
    length = row["seq_lengths"][0] if "seq_lengths" in row else len(row["input_ids"])
    pairs = list(zip(row["input_ids"], row["completion_mask"], strict=True))[:length]
    text = Text()
    whole = ""
    ids: list[int] = []
    for counts, group in groupby(pairs, key=lambda pair: bool(pair[1])):
        ids += [token for token, _ in group]
        # All so far, as tokenizers drop the space that the first of the decoded tokens begins with.
        so_far = str(tokenizer.decode(ids))
        piece, whole = printable(so_far[len(whole) :]), so_far
        if counts:
            text.append(MARKS[0] + piece + MARKS[1] if marks else piece)
        else:
            text.append(piece, style="dim")
    return text
