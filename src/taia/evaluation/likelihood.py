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
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import torch

from taia.errors import DataError
from taia.evaluation.tasks.questions import Normalise, Question
from taia.runtime.forward import LogProbabilities, can_share

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

#: Called with the number of questions just scored.
Progress: TypeAlias = Callable[[int], None]

#: Per request, per option.
_Found: TypeAlias = "list[list[Likelihood]]"

#: Tokens that run together. More does not pay on a CPU, and needs room for the logits.
BATCH_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt in tokens with its continuations, such as a question's options; none is empty."""

    prompt: tuple[int, ...]
    options: tuple[tuple[int, ...], ...]


class Likelihood(NamedTuple):
    """How likely a continuation is.

    Attributes:
        logprob: Sum of its tokens' log-probabilities in nats.
        is_greedy: Whether each of its tokens is the likeliest at its place.
    """

    logprob: float
    is_greedy: bool


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
    found = likelihoods(model, requests, batch_tokens=batch_tokens, progress=progress)
    scores = [[option.logprob for option in row] for row in found]
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
def likelihoods(
    model: PreTrainedModel | PeftModel,
    requests: Sequence[Request],
    *,
    batch_tokens: int = BATCH_TOKENS,
    share: bool | None = None,
    progress: Progress | None = None,
) -> list[list[Likelihood]]:
    """How likely each option of each request is.

    Args:
        model: A causal language model. Dropout is off while it scores.
        requests: Prompts and options in tokens.
        batch_tokens: How many tokens run together.
        share: Compute each prompt once, or once per option. By default whatever the model's cache
            allows: a recurrent state cannot be continued by several tokens at once.
        progress: Told how many requests were just scored.

    Returns:
        Per request, per option, its likelihood.
    """
    found = [[Likelihood(0.0, True)] * len(request.options) for request in requests]
    if not requests:
        return found
    training = model.training
    model.train(False)
    try:
        run = _shared if (can_share(model) if share is None else share) else _apart
        for done in run(LogProbabilities(model), requests, batch_tokens, found):
            if progress:
                progress(done)
    finally:
        model.train(training)
    return found


class _Longer(NamedTuple):
    """An option of more than one token: its prompt's row in the cache, and whose it is."""

    row: int
    request: int
    number: int
    option: tuple[int, ...]


def _shared(
    forward: LogProbabilities, requests: Sequence[Request], batch_tokens: int, found: _Found
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
            longer = _first_tokens(requests, batch, last[:, 0], found)
            for part in _batches(longer, batch_tokens):
                is_last = part[-1] is longer[-1]
                _continue(forward, part, cache if is_last else copy.deepcopy(cache), found)
            yield len(batch)


def _first_tokens(
    requests: Sequence[Request], indices: Sequence[int], last: torch.Tensor, found: _Found
) -> list[_Longer]:
    """Take the options' first tokens from what ``last`` ``[rows, vocabulary]`` predicts.

    Returns:
        The options that have more tokens.
    """
    longer = []
    for row, index in enumerate(indices):
        for number, option in enumerate(requests[index].options):
            found[index][number] = _rate(last[row : row + 1], option[:1])
            if len(option) > 1:
                longer.append(_Longer(row, index, number, option))
    return sorted(longer, key=lambda one: len(one.option))


def _batches(longer: Sequence[_Longer], batch_tokens: int) -> Iterator[list[_Longer]]:
    """Options, shortest first, in batches whose padded rows are at most so many tokens."""
    batch: list[_Longer] = []
    for one in longer:
        if batch and (len(batch) + 1) * (len(one.option) - 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


def _continue(
    forward: LogProbabilities, longer: Sequence[_Longer], cache: DynamicCache, found: _Found
) -> None:
    """Add the options' tokens after their first, run after the prompts' cache."""
    width = len(longer[-1].option) - 1
    # The pad is any token: it comes after everything that is read.
    ids = torch.zeros(len(longer), width, dtype=torch.long)
    for place, one in enumerate(longer):
        ids[place, : len(one.option) - 1] = torch.tensor(one.option[:-1])
    cache.batch_select_indices(torch.tensor([one.row for one in longer]))
    logs = forward.cached(ids, cache, keep=width)[0]
    for place, one in enumerate(longer):
        first, rest = found[one.request][one.number], _rate(logs[place], one.option[1:])
        found[one.request][one.number] = Likelihood(
            first.logprob + rest.logprob, first.is_greedy and rest.is_greedy
        )


def _apart(
    forward: LogProbabilities, requests: Sequence[Request], batch_tokens: int, found: _Found
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
            found[index][number] = _rate(logs[place, label:], request.options[number])
            left[index] -= 1
            done += left[index] == 0
        yield done


def _rate(logs: torch.Tensor, tokens: Sequence[int]) -> Likelihood:
    """The likelihood of tokens, of which row i of ``logs`` predicts the i-th.

    The log-probabilities are added in double precision.
    """
    rows = logs[: len(tokens)]
    chosen = rows[range(len(tokens)), list(tokens)]
    return Likelihood(float(chosen.double().sum()), rows.argmax(-1).tolist() == list(tokens))


def _common(prompts: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """What all prompts begin with, leaving each at least one token."""
    first, last = min(prompts), max(prompts)
    longest = min(len(prompt) for prompt in prompts) - 1
    size = 0
    while size < longest and first[size] == last[size]:
        size += 1
    return first[:size]
