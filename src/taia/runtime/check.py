"""What a model can be asked for."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taia.errors import InputError
from taia.runtime.generation import Generation
from taia.runtime.layers import token_embedding

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class Limits:
    """What a model's shape allows.

    Attributes:
        tokens: How many tokens its vocabulary has.
        positions: How many tokens prompt and answer may have together; None: any number.
    """

    tokens: int
    positions: int | None

    @classmethod
    def of(cls, model: PreTrainedModel | PeftModel) -> Limits:
        """Read them off a model."""
        live: Any = model
        config = live.config.get_text_config()
        return cls(
            token_embedding(live).num_embeddings,
            getattr(config, "max_position_embeddings", None),
        )

    def check(self, request: Generation, modes: Collection[str]) -> None:
        """Refuse what cannot be answered.

        Raises:
            InputError: If the mode is unknown, the prompt is empty, leaves no room for an answer or
                has tokens that the model lacks, or an option has no sense.
        """
        if request.mode not in modes:
            raise InputError(
                f"The model has no mode {request.mode!r}.", f"It has {', '.join(modes)}."
            )
        if not request.prompt:
            raise InputError("The prompt is empty.", "Give it at least one token.")
        if self.positions is not None and len(request.prompt) >= self.positions:
            raise InputError(
                f"The prompt has {len(request.prompt)} tokens; the model has {self.positions} "
                "positions for prompt and answer.",
                "Shorten the prompt.",
            )
        for token in (*request.prompt, *request.logit_bias):
            if not 0 <= token < self.tokens:
                raise InputError(
                    f"There is no token {token}.", f"The model's are 0 to {self.tokens - 1}."
                )
        for wrong, mend in _wrong_options(request):
            raise InputError(wrong, mend)

    def room(self, request: Generation) -> int:
        """How many tokens an answer to a checked request can have."""
        if self.positions is None:
            return request.max_new_tokens
        return self.positions - len(request.prompt)


def _wrong_options(request: Generation) -> Iterator[tuple[str, str]]:
    if request.max_new_tokens < 1:
        yield f"max_new_tokens is {request.max_new_tokens}.", "Ask for at least one token."
    if not 0 <= request.temperature < math.inf:
        yield f"The temperature is {request.temperature}.", "Give 0 or a positive number."
    if not 0 < request.top_p <= 1:
        yield f"top_p is {request.top_p}.", "Give a number above 0 and at most 1."
    if request.top_k < 0:
        yield f"top_k is {request.top_k}.", "Give 0 for all tokens, or how many."
    if request.logprobs is not None and request.logprobs < 0:
        yield f"logprobs is {request.logprobs}.", "Give how many alternatives, or None."
    if "" in request.stop:
        yield "A stop text is empty.", "Leave it out."
    if not all(map(math.isfinite, request.logit_bias.values())):
        yield "A logit bias is not a finite number.", "Give a number such as -100 or 15."
