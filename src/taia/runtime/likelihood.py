"""How likely a model finds continuations of prompts.

The likelihood of a continuation is the sum of the log-probabilities of its tokens after the prompt.
The head, which is as wide as the vocabulary, sees only positions that predict such a token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import torch

from taia.runtime.forward import at_rest, cache_kind
from taia.runtime.rating import Likelihood, Rater, Request, rate
from taia.runtime.shared import shared

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

#: Called with the number of requests just rated.
RatingProgress: TypeAlias = Callable[[int], None]


def likelihoods(
    model: PreTrainedModel | PeftModel,
    requests: Sequence[Request],
    *,
    batch_tokens: int | None = None,
    share: bool | None = None,
    progress: RatingProgress | None = None,
) -> list[list[Likelihood]]:
    """How likely each option of each request is.

    Args:
        model: A causal language model. Dropout is off while it rates.
        requests: Prompts and options in tokens.
        batch_tokens: How many tokens run together; by default what suits the device.
        share: Compute each prompt once, or once per option. By default whatever the model's cache
            allows: a recurrent state cannot be continued by several tokens at once.
        progress: Told how many requests were just rated.

    Returns:
        Per request, per option, its likelihood.
    """
    found = [[Likelihood(0.0, True)] * len(request.options) for request in requests]
    if not requests:
        return found
    with at_rest(model):
        kind = cache_kind(model)
        run = shared if (kind != "state" if share is None else share) else _apart
        rater = Rater(model, batch_tokens, pads=kind == "whole")
        for done in run(rater, requests, found):
            if progress:
                progress(done)
    return found


def _apart(
    rater: Rater, requests: Sequence[Request], found: list[list[Likelihood]]
) -> Iterator[int]:
    """One row per option, prompt and all."""
    rows = sorted(
        (
            (len(request.prompt) + len(option), index, number)
            for index, request in enumerate(requests)
            for number, option in enumerate(request.options)
        ),
        reverse=True,
    )
    left = [len(request.options) for request in requests]
    while rows:
        size = max(1, rater.batch_labels // rows[0][0])
        batch, rows = rows[:size], rows[size:]
        width = batch[0][0] - 1
        ids = torch.zeros(len(batch), width, dtype=torch.long)
        for place, (length, index, number) in enumerate(batch):
            request = requests[index]
            ids[place, : length - 1] = torch.tensor(request.prompt + request.options[number])[:-1]
        first = min(len(requests[index].prompt) for _, index, _ in batch) - 1
        logits, _ = rater.forward(ids, width - first, use_cache=False)
        labels = [len(requests[index].prompt) - 1 - first for _, index, _ in batch]
        options = [requests[index].options[number] for _, index, number in batch]
        done = 0
        rated = rate(logits, list(enumerate(labels)), options)
        for (_, index, number), likelihood in zip(batch, rated, strict=True):
            found[index][number] = likelihood
            left[index] -= 1
            done += left[index] == 0
        yield done
