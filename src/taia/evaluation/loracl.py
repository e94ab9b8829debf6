"""LoRACL: each prompt is answered by whichever of base and tuned has the lower loss on it.

A baseline of the paper. In the authors' code the tuned weights are merged into the base in
place, so that both are the same model, and once the base was chosen it stays for all later prompts;
here the choice is a pure rule over losses that were measured, prompt by prompt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from taia.errors import MismatchError

#: The mode that LoRACL adds.
LORACL: Final = "loracl"

Answerer: TypeAlias = Literal["base", "tuned"]


def choose(base: Sequence[float], tuned: Sequence[float]) -> tuple[Answerer, ...]:
    """Which of the two models answers each prompt: the one with the lower loss; of equals, base.

    Args:
        base: Per prompt, the base model's mean negative log-likelihood of the prompt's tokens.
        tuned: The same of the tuned model, for the same prompts in the same order.

    Raises:
        MismatchError: If the two are not equally many, a loss is not a number, or the losses are
            the same on every one of several prompts: then both are the same model.
    """
    if len(base) != len(tuned):
        raise MismatchError(
            f"Base has losses on {len(base)} prompts, tuned on {len(tuned)}.",
            "Measure both on the same prompts.",
        )
    for name, losses in (("base", base), ("tuned", tuned)):
        for index, loss in enumerate(losses):
            if math.isnan(loss):
                raise MismatchError(
                    f"The loss of {name} on prompt {index} is not a number.",
                    "Give every prompt at least two tokens, and check the weights.",
                )
    if len(base) > 1 and all(a == b for a, b in zip(base, tuned, strict=True)):
        raise MismatchError(
            f"Base and tuned have the same loss on all {len(base)} prompts: they are one model.",
            "Measure the base before anything is merged into it.",
        )
    return tuple("tuned" if b < a else "base" for a, b in zip(base, tuned, strict=True))
