"""Texts to tokens as lm-evaluation-harness's own model for transformers does it."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from taia.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

#: A context and its continuation, in tokens; neither is empty.
Pair = tuple[tuple[int, ...], tuple[int, ...]]


class Encoder(HFLM):  # type: ignore[misc]  # lm_eval has no types
    """That model up to where it would run: how it splits, truncates and formats.

    Args:
        config: The model's.
        tokenizer: The model's.
        spare: How many tokens of the model's length stay free.
    """

    def __init__(
        self, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, spare: int = 0
    ) -> None:
        # The text tower of a model that sees has the length.
        weightless = SimpleNamespace(config=config.get_text_config(), device="cpu")
        super().__init__(pretrained=weightless, tokenizer=tokenizer, backend="causal")
        self._max_length = self.max_length - spare

    def pairs(self, texts: Sequence[tuple[str, str]]) -> list[Pair]:
        """Contexts with their continuations, cut from the left to what the model can read."""
        requests = [Instance("loglikelihood", {}, pair, 0) for pair in texts]
        return [self._fit(*encoded) for _, *encoded in self.loglikelihood(requests, True)]

    def windows(self, text: str) -> list[Pair]:
        """A text as windows of the model's length, in which each token is predicted once.

        The first is predicted from the token that texts begin with, which is itself no part of the
        text: it is there once and is not scored. (lm-evaluation-harness scores it, given itself,
        where the tokenizer adds one: its issue 3333.)
        """
        first = self.prefix_token_id
        tokens = self.tok_encode(text, add_special_tokens=False)
        found = get_rolling_token_windows(
            token_list=tokens[1:] if tokens[:1] == [first] else tokens,
            prefix_token=first,
            max_seq_len=self.max_length,
            context_len=1,
        )
        return [self._fit(*make_disjoint_window(window)) for window in found]

    def prompt(self, text: str, room: int) -> tuple[int, ...]:
        """A prompt, cut from the left so that ``room`` tokens can follow it.

        Raises:
            InputError: If the model has not that much room.
        """
        if room >= self.max_length:
            raise InputError(
                f"The task generates {room} tokens; the model reads only {self.max_length}.",
                "Give fewer with --max-gen-toks.",
            )
        ids, _ = self.tok_batch_encode([text], left_truncate_len=self.max_length - room)
        return tuple(ids[0].tolist())

    def letter(self, letter: str) -> int:
        """A letter's token; where it is several, the one that holds the letter."""
        return int(self.tokenizer.encode(letter, add_special_tokens=False)[-1])

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A conversation as a prompt.

        Raises:
            InputError: If the tokenizer has no chat template.
        """
        if self.tokenizer.chat_template is None:
            raise InputError("The tokenizer has no chat template.", "Add --no-apply-chat-template.")
        return str(super().apply_chat_template(chat_history, add_generation_prompt))

    def text(self, tokens: Sequence[int], until: Sequence[str]) -> str:
        """An answer's text, without what ended it."""
        end = self.tok_decode(self.eot_token_id, skip_special_tokens=False)
        text = self.tok_decode(list(tokens))
        return str(postprocess_generated_text(text, [*until, end], None))

    def _loglikelihood_tokens(self, requests: list[Any], **_: object) -> list[Any]:
        """Where the model would run, the tokens are handed back."""
        return requests

    def _fit(self, context: list[int], continuation: list[int]) -> Pair:
        if not continuation:
            raise InputError(
                "A continuation has no tokens in this model's vocabulary.",
                "Such an item cannot be rated: leave the task out.",
            )
        if len(continuation) > self.max_length:
            raise InputError(
                f"A continuation of {len(continuation)} tokens; the model reads {self.max_length}.",
                "Such an item cannot be rated: leave the task out.",
            )
        whole = (context + continuation)[-(self.max_length + 1) :]
        cut = len(whole) - len(continuation)
        return tuple(whole[:cut]), tuple(whole[cut:])
