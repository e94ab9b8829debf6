"""From rows to tokens and the mask of those that the loss counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from taia.errors import DataError
from taia.training.data.row import Row
from taia.training.data.template import ChatTemplate, Rendered, Span, UnrenderedError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TokenArray: TypeAlias = "np.ndarray[Any, Any]"


@dataclass(frozen=True, slots=True)
class Tokens:
    """A row in tokens.

    Attributes:
        input_ids: int32, of length n.
        counts: bool, of length n: whether the loss counts the prediction of this token. The first
            is never predicted.
        cut: Whether it was longer.
    """

    input_ids: TokenArray
    counts: TokenArray
    cut: bool = False


class RowEncoder:
    """A tokenizer with what was learnt about its chat template.

    A row is rendered whole and tokenised once, so that no token differs from what the model sees
    when it is asked; the mask is made from the tokens' places in the text.

    Without a chat template a conversation is ``Question: …`` and ``Answer: …``, the words that
    scoring uses (:mod:`taia.demo.questions`), and each answer ends with the end token.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int,
        truncation: Literal["cut", "drop"] = "cut",
        train_on_prompt: bool = False,
    ) -> None:
        if not tokenizer.is_fast:
            raise DataError(
                f"The tokenizer {type(tokenizer).__name__} does not say where its tokens are.",
                "Use the fast tokenizer of the same model (a tokenizer.json).",
            )
        self._tokenizer = tokenizer
        self._template = ChatTemplate(tokenizer) if tokenizer.chat_template else None
        self._max_length = max_length
        self._drops = truncation == "drop"
        self._all = train_on_prompt
        self._end = str(tokenizer.eos_token) if tokenizer.eos_token else ""

    def encode(self, rows: Sequence[Row]) -> list[Tokens | UnrenderedError | None]:
        """Tokenise rows.

        Returns:
            Per row its tokens; why it was refused; or ``None`` if it is dropped, because it is too
            long or nothing to learn is left of it.
        """
        rendered = [self._render(row) for row in rows]
        result: list[Tokens | UnrenderedError | None] = [
            each if isinstance(each, UnrenderedError) else None for each in rendered
        ]
        for special in (False, True):
            batch = [
                (index, each)
                for index, (row, each) in enumerate(zip(rows, rendered, strict=True))
                if isinstance(each, Rendered)
                and (self._template is None or not row.chat) == special
            ]
            if not batch:
                continue
            coded = self._tokenizer(
                [each.text for _, each in batch],
                add_special_tokens=special,
                return_offsets_mapping=True,
                return_attention_mask=False,
                verbose=False,
            )
            masked = []
            for (index, each), ids, offsets in zip(
                batch, coded["input_ids"], coded["offset_mapping"], strict=True
            ):
                if special and self._end and ids[-2:] == [self._tokenizer.eos_token_id] * 2:
                    ids, offsets = ids[:-1], offsets[:-1]  # the tokenizer adds its own
                counts, spans = _counts(np.asarray(offsets), each)
                masked.append((index, each, np.asarray(ids, dtype=np.int32), counts, spans))
            self._verify(masked)
            for index, _, array, counts, _ in masked:
                result[index] = self._cut(array, counts)
        return result

    def _render(self, row: Row) -> Rendered | UnrenderedError:
        if not row.chat:
            return _literal(row, self._end)
        if self._template is None:
            return _plain(row, self._end)
        try:
            return self._template.render(row)
        except UnrenderedError as error:
            return error

    def _cut(self, ids: TokenArray, counts: TokenArray) -> Tokens | None:
        if self._all:
            counts = np.ones_like(counts)
        counts[:1] = False
        cut = len(ids) > self._max_length
        if cut:
            if self._drops:
                return None
            ids, counts = ids[: self._max_length], counts[: self._max_length]
        return Tokens(ids, counts, cut) if counts.any() else None

    def _verify(
        self, masked: list[tuple[int, Rendered, TokenArray, TokenArray, list[tuple[int, int]]]]
    ) -> None:
        """Decode what is counted: it must be the answers, to the letter."""
        pieces = [ids[a:b].tolist() for _, _, ids, _, spans in masked for a, b in spans]
        texts = [each.text[a:b] for _, each, _, _, _ in masked for a, b in each.spans]
        decoded = self._tokenizer.batch_decode(pieces)
        for piece, text in zip(decoded, texts, strict=True):
            if _letters(piece) != _letters(text) and _letters(piece) != _letters(
                # Tokenizers may normalise what they read, or not know a letter.
                self._tokenizer.decode(self._tokenizer(text, add_special_tokens=False).input_ids)
            ):
                raise DataError(
                    f"The tokenizer's places are wrong: {piece[:60]!r} is counted where "
                    f"{text[:60]!r} should be.",
                    "Use another version of this tokenizer, or report this with its name.",
                )


def _letters(text: str | list[str]) -> str:
    return "".join(str(text).split())


def _counts(offsets: TokenArray, row: Rendered) -> tuple[TokenArray, list[Span]]:
    """Which tokens lie in the spans, and per span from which token to which."""
    starts, ends = offsets[:, 0], offsets[:, 1]
    counts = np.zeros(len(offsets), dtype=bool)
    places = []
    for start, end in row.spans:
        inside = (starts < end) & (ends > start)
        # A token without width, where a tokenizer leaves white space out of its places.
        inside |= (starts == ends) & (start < ends) & (ends <= end)
        for token in np.flatnonzero(inside & (starts < start)):
            # It belongs to both sides: learnt only if a letter of the answer is in it.
            inside[token] = bool(row.text[start : min(end, ends[token])].strip())
        where = np.flatnonzero(inside)
        places.append((int(where[0]), int(where[-1]) + 1) if len(where) else (0, 0))
        counts |= inside
    return counts, places


def _literal(row: Row, end: str) -> Rendered:
    text = ""
    spans: list[Span] = []
    for turn in row.turns:
        if turn.learnt:
            spans.append((len(text), len(text) + len(turn.content)))
        text += turn.content
    return _ended(text, spans, end)


def _plain(row: Row, end: str) -> Rendered:
    text = ""
    spans: list[Span] = []
    for turn in row.turns:
        text += "\n\n" if text else ""
        if turn.role == "assistant":
            text = text.removesuffix("\n\n") + ("\nAnswer:" if text else "Answer:")
            start = len(text)
            text += f" {turn.content}{end}"
            if turn.learnt:
                spans.append((start, len(text)))
        else:
            text += f"Question: {turn.content}" if turn.role == "user" else turn.content
    return Rendered(text, tuple(spans))


def _ended(text: str, spans: list[Span], end: str) -> Rendered:
    if end and spans[-1][1] == len(text) and not text.endswith(end):
        text += end
        spans[-1] = (spans[-1][0], len(text))
    return Rendered(text, tuple(spans))
