"""Base's own answers to what is kept: along them it is measured how far a mode has moved.

They are drawn at temperature 1 from the whole vocabulary. The mean over such answers of the
divergence token by token is the divergence of the distributions of whole answers, by the chain
rule; along the likeliest answer, or anybody else's, it would be of something else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from taia.mending.candidates import BASE
from taia.mending.examples import Example
from taia.mending.items import MendItem, Tokeniser
from taia.mending.journal import Journal, digest
from taia.runtime.generation import Generation

if TYPE_CHECKING:
    from taia.runtime.engine import Engine

#: Tokens of an answer, at most.
LENGTH: Final = 32


def kept_examples(
    items: Sequence[MendItem],
    tokeniser: Tokeniser,
    engine: Engine,
    end: frozenset[int],
    journal: Journal,
    *,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> list[Example]:
    """Items as examples; those without an answer get base's own.

    The end of an answer counts as a token of it: whether a model stops there may change as well.

    Args:
        items: What is kept.
        tokeniser: Makes tokens.
        engine: Writes answers.
        end: Tokens that end one.
        journal: Answers that are known already.
        seed: Of the draws; the same seed and prompt give the same answer.
        progress: Told how many answers were just written.

    Returns:
        An example for each item that is not too long, in order.

    Raises:
        DataError: If a row cannot be put in the chat format.
    """
    prompts = {number: tokeniser.prompt(item) for number, item in enumerate(items)}
    keys = {
        number: digest("answer", prompt, LENGTH, seed)
        for number, prompt in prompts.items()
        if prompt is not None
    }
    lacking = [number for number, key in keys.items() if journal.get(key) is None]
    requests = [
        Generation(
            mode=BASE.name,
            prompt=prompts[number] or (),
            max_new_tokens=LENGTH,
            end=end,
            temperature=1.0,
            seed=_seed(seed, keys[number]),
        )
        for number in lacking
    ]
    for number, answer in zip(lacking, engine.generate(requests, progress), strict=True):
        ids = [token.id for token in answer.tokens]
        journal.put(keys[number], [*ids, *([min(end)] if answer.finish == "stop" and end else [])])
    found = []
    for number, item in enumerate(items):
        prompt = prompts[number]
        if prompt is None:
            example = tokeniser.example(item)
        else:
            whole = (*prompt, *journal.get(keys[number]))
            places = tuple(range(len(prompt), len(whole)))
            example = Example(item.key, whole, places) if places else None
        found += [] if example is None else [example]
    return found


def _seed(seed: int, key: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {key}".encode()).digest()[:4])
