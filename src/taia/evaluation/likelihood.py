"""How likely a model finds each option of a question.

The score of an option is the sum of the log-probabilities of its tokens after the prompt. Nothing
is computed twice: what all prompts begin with (the chat template's head) runs once, the rest of
each prompt once, and the options continue its key-value cache. The head, which is as wide as the
vocabulary, sees only positions that predict an option's token.

Prompts run together only when they are equally long, and an option is padded only at its end, so
no position ever attends to padding: masks and position ids are the model's own defaults, which
is why rotary, absolute and ALiBi positions all come out right.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from taia.errors import DataError
from taia.evaluation.questions import Normalise, Question
from taia.runtime.forward import Forward, can_share

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

#: Called with the number of questions just scored.
Progress: TypeAlias = Callable[[int], None]

#: Tokens that run together. More does not pay on a CPU, and needs room for the logits.
BATCH_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Request:
    """A question in tokens: every option is a continuation of the prompt, none is empty."""

    prompt: tuple[int, ...]
    options: tuple[tuple[int, ...], ...]


def score_options(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    *,
    normalise: Normalise = "none",
    batch_tokens: int = BATCH_TOKENS,
    progress: Progress | None = None,
) -> list[list[float]]:
    """Score each option of each question as the assistant's answer.

    Args:
        model: A causal language model, with or without a PEFT adapter; in whatever mode it is.
        tokenizer: Its tokenizer. Without a chat template, *Question: … Answer:* is used.
        questions: What to ask.
        normalise: Whether a score is divided by its option's number of characters.
        batch_tokens: How many tokens run together.
        progress: Told how many questions were just scored.

    Returns:
        Per question, per option, its log-probability in nats, normalised as asked.

    Raises:
        DataError: If an option has no tokens.
    """
    requests = [encode(tokenizer, question) for question in questions]
    scores = score_requests(model, requests, batch_tokens=batch_tokens, progress=progress)
    if normalise == "none":
        return scores
    return [
        [score / len(option) for score, option in zip(row, question.options, strict=True)]
        for row, question in zip(scores, questions, strict=True)
    ]


def encode(tokenizer: PreTrainedTokenizerBase, question: Question) -> Request:
    """Turn a question into tokens, in the model's chat format where it has one.

    Raises:
        DataError: If an option has no tokens.
    """
    if tokenizer.chat_template:
        chat = [{"role": "user", "content": question.text}]
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        prompt, lead, special = str(text), "", False
    else:
        prompt, lead, special = f"Question: {question.text}\nAnswer:", " ", True
    options = tuple(
        tuple(tokenizer(lead + option, add_special_tokens=False).input_ids)
        for option in question.options
    )
    if not all(options):
        raise DataError(
            f"Question {question.id!r}: an option has no tokens in this model's vocabulary.",
            "Reword the option or use another model.",
        )
    return Request(tuple(tokenizer(prompt, add_special_tokens=special).input_ids), options)


@torch.inference_mode()
def score_requests(
    model: PreTrainedModel | PeftModel,
    requests: Sequence[Request],
    *,
    batch_tokens: int = BATCH_TOKENS,
    share: bool | None = None,
    progress: Progress | None = None,
) -> list[list[float]]:
    """Score each option of each request; see :func:`score_options`.

    Args:
        model: A causal language model. Dropout is off while it scores.
        requests: Prompts and options in tokens.
        batch_tokens: How many tokens run together.
        share: Compute each prompt once, or once per option. By default whatever the model's cache
            allows: a recurrent state cannot be continued by several tokens at once.
        progress: Told how many requests were just scored.

    Returns:
        Per request, per option, the sum of its tokens' log-probabilities in nats.
    """
    scores: list[list[float]] = [[0.0] * len(request.options) for request in requests]
    if not requests:
        return scores
    training = model.training
    model.train(False)
    try:
        run = _shared if (can_share(model) if share is None else share) else _apart
        for done in run(_Logs(model), requests, batch_tokens, scores):
            if progress:
                progress(done)
    finally:
        model.train(training)
    return scores


class _Logs:
    """Log-probabilities of a model's forward pass, computed only where they are asked for."""

    def __init__(self, model: PreTrainedModel | PeftModel) -> None:
        self._forward = Forward(model)

    def cached(
        self, ids: torch.Tensor, cache: DynamicCache | None, keep: int = 1
    ) -> tuple[torch.Tensor, Any]:
        """Log-probabilities at the last ``keep`` positions of ``ids``, and the cache after it."""
        logits, out = self._forward(ids, keep, use_cache=True, past_key_values=cache)
        return _log_softmax(logits), getattr(out, "past_key_values", None)

    def plain(self, ids: torch.Tensor, keep: int) -> torch.Tensor:
        """Log-probabilities ``[rows, keep, vocabulary]`` at the last ``keep`` positions."""
        return _log_softmax(self._forward(ids, keep, use_cache=False)[0])


def _log_softmax(logits: torch.Tensor) -> torch.Tensor:
    return logits.float().log_softmax(-1).cpu()


def _shared(
    forward: _Logs, requests: Sequence[Request], batch_tokens: int, scores: list[list[float]]
) -> Iterator[int]:
    """Each prompt once; its options continue its cache."""
    head = _common([request.prompt for request in requests])
    start = forward.cached(torch.tensor([head]), None)[1] if head else None
    lengths: dict[int, list[int]] = defaultdict(list)
    for index, request in enumerate(requests):
        lengths[len(request.prompt) - len(head)].append(index)
    for length, group in sorted(lengths.items()):
        size = max(1, batch_tokens // length)
        for first in range(0, len(group), size):
            batch = group[first : first + size]
            prompts = torch.tensor([requests[i].prompt[len(head) :] for i in batch])
            cache = copy.deepcopy(start)
            if cache is not None:
                cache.batch_select_indices(torch.zeros(len(batch), dtype=torch.long))
            last, cache = forward.cached(prompts, cache)
            _continue(forward, [requests[i] for i in batch], last[:, 0], cache, batch, scores)
            yield len(batch)


def _continue(
    forward: _Logs,
    requests: Sequence[Request],
    last: torch.Tensor,
    cache: DynamicCache,
    indices: Sequence[int],
    scores: list[list[float]],
) -> None:
    """Add up the options' log-probabilities after prompts that have run.

    ``last`` ``[rows, vocabulary]`` predicts each option's first token; for the others the option,
    all but its last token, runs after the cache.
    """
    longer = []
    for row, (request, index) in enumerate(zip(requests, indices, strict=True)):
        for number, option in enumerate(request.options):
            scores[index][number] = float(last[row, option[0]])
            if len(option) > 1:
                longer.append((row, index, number, option))
    if not longer:
        return
    width = max(len(option) for *_, option in longer) - 1
    # The pad is any token: it comes after everything that is read.
    ids = torch.zeros(len(longer), width, dtype=torch.long)
    for place, (*_, option) in enumerate(longer):
        ids[place, : len(option) - 1] = torch.tensor(option[:-1])
    cache.batch_select_indices(torch.tensor([row for row, *_ in longer]))
    logs = forward.cached(ids, cache, keep=width)[0]
    for place, (_, index, number, option) in enumerate(longer):
        scores[index][number] += _sum(logs[place], option[1:])


def _apart(
    forward: _Logs, requests: Sequence[Request], batch_tokens: int, scores: list[list[float]]
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
        size = max(1, batch_tokens // rows[0][0])
        batch, rows = rows[:size], rows[size:]
        width = batch[0][0] - 1
        ids = torch.zeros(len(batch), width, dtype=torch.long)
        for place, (length, index, number) in enumerate(batch):
            request = requests[index]
            ids[place, : length - 1] = torch.tensor(request.prompt + request.options[number])[:-1]
        first = min(len(requests[index].prompt) for _, index, _ in batch) - 1
        logs = forward.plain(ids, keep=width - first)
        done = 0
        for place, (_, index, number) in enumerate(batch):
            request = requests[index]
            label = len(request.prompt) - 1 - first
            scores[index][number] = _sum(logs[place, label:], request.options[number])
            left[index] -= 1
            done += left[index] == 0
        yield done


def _sum(logs: torch.Tensor, tokens: Sequence[int]) -> float:
    """Sum of the log-probabilities ``logs[i, tokens[i]]``, in double precision."""
    return float(logs[range(len(tokens)), list(tokens)].double().sum())


def _common(prompts: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """What all prompts begin with, leaving each at least one token."""
    first, last = min(prompts), max(prompts)
    longest = min(len(prompt) for prompt in prompts) - 1
    size = 0
    while size < longest and first[size] == last[size]:
        size += 1
    return first[:size]
