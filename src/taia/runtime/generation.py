"""What is asked of a generation, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

#: Why an answer ended: a token or text that ends it, its length, or its reader went away.
Finish: TypeAlias = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, slots=True)
class Generation:
    """A prompt to go on from, in one mode.

    Attributes:
        mode: One of the model's modes.
        prompt: The prompt's tokens, at least one.
        max_new_tokens: At most so many tokens, at least one.
        end: Tokens that end the answer; they are not part of it.
        stop: Texts that end the answer; they are not part of it.
        temperature: Of the softmax that is drawn from; 0 takes the likeliest token.
        top_p: Draw from the likeliest tokens that have this much probability together.
        top_k: Draw from so many likeliest tokens; 0 from all.
        seed: Of the draws. The same seed and prompt give the same draws, whatever runs beside it.
        logit_bias: Token → what is added to its logit before anything else.
        logprobs: How many alternatives of each token are wanted; None: no log-probabilities.
    """

    mode: str
    prompt: tuple[int, ...]
    max_new_tokens: int
    end: frozenset[int] = frozenset()
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """A token of an answer.

    Attributes:
        id: Its id.
        logprob: Its log-probability in nats, where asked for.
        alternatives: The likeliest tokens at its place with their log-probabilities.
    """

    id: int
    logprob: float | None = None
    alternatives: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """What one step added to one answer.

    Attributes:
        ticket: Which answer.
        text: Text that will not change any more: no half character, no possible start of a stop.
        tokens: The tokens that this step added.
        finish: Why the answer ended, None while it goes on.
    """

    ticket: int
    text: str
    tokens: tuple[Token, ...]
    finish: Finish | None = None


@dataclass(frozen=True, slots=True)
class Generated:
    """A whole answer.

    Attributes:
        text: What was written, without what ended it.
        tokens: Its tokens, without those of ``end``.
        finish: Why it ended.
    """

    text: str
    tokens: tuple[Token, ...]
    finish: Finish

    @classmethod
    def of(cls, parts: Sequence[Progress]) -> Generated:
        """Put together what the steps added to an answer that has ended."""
        finish = parts[-1].finish
        if finish is None:
            raise ValueError("the answer goes on")
        return cls(
            "".join(part.text for part in parts),
            tuple(token for part in parts for token in part.tokens),
            finish,
        )
