"""Self-distillation: the base model rewrites each answer of the data in its own words.

SDFT (Yang et al. 2024, "Self-Distillation Bridges Distribution Gap in Language Model Fine-Tuning",
arXiv 2402.13669, and sail-sg/sdft) is one of the paper's baselines. Before ordinary fine-tuning the
model that will be tuned sees each instruction with its reference answer, and writes an answer of
its own; where that cannot be used, the reference stays. ``PROMPT`` and ``BANNED`` are the authors'
wording. Where we differ from their code:

- The prompt is the user's message in the tokenizer's chat template, after the conversation's own
  system message and earlier turns. Theirs is Alpaca's plain text, for one turn.
- Every answer of a conversation is rewritten, each after the original ones before it.
- Decoding is greedy, where theirs samples; an answer that reached the limit of tokens is not used,
  where theirs is used cut off; nor is an empty one.
- They use another prompt for some data sets, and compare final answers in those that have one:
  ``prompt`` of the options, and ``agrees``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from taia.errors import InputError
from taia.loading.models import end_tokens
from taia.training.baselines.generations import Generations, Rollout, fingerprint, generate

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: ``[{"role": "user", "content": "…"}, …]``
Messages: TypeAlias = list[dict[str, str]]

#: Told after each batch how many answers of how many are there.
AnswerProgress: TypeAlias = Callable[[int, int], None]

#: What the model is given for each answer: sail-sg/sdft's ``alpaca_distill_using``.
PROMPT: Final = """\
Below are an instruction that describes a task along with a reference answer. Using the reference \
answer as a guide, write your own response.

### Instruction:
{instruction}

### Reference Answer:
{reference}

### Response:
"""

#: Phrases that no answer holds, whatever their case: the model speaks of the task, not to it.
BANNED: Final = (
    "reference answer",
    "your response",
    "my response",
    "your own response",
    "now it's your turn",
)
#: What no answer begins with.
BANNED_STARTS: Final = ("Your turn",)

#: Why an answer was kept as it was.
Reason: TypeAlias = Literal[
    "no instruction", "prompt too long", "cut off", "empty", "banned", "disagrees"
]


@dataclass(frozen=True, slots=True)
class SdftOptions:
    """How to rewrite, and what to refuse.

    Attributes:
        prompt: Holds ``{instruction}`` and ``{reference}`` once each.
        max_new_tokens: Longest answer; one that reaches it without an end is not used.
        max_prompt_tokens: Answers whose prompt is longer are kept as they were.
        batch_size: Answers written at once.
        banned: Phrases that an answer may not hold, in any case.
        banned_starts: What it may not begin with.
    """

    prompt: str = PROMPT
    max_new_tokens: int = 512
    max_prompt_tokens: int = 2048
    batch_size: int = 16
    banned: tuple[str, ...] = BANNED
    banned_starts: tuple[str, ...] = BANNED_STARTS

    def __post_init__(self) -> None:
        for name in ("instruction", "reference"):
            if self.prompt.count(f"{{{name}}}") != 1:
                raise InputError(
                    f"The prompt for self-distillation does not hold {{{name}}} once.",
                    "Write {instruction} and {reference} where the row's own go.",
                )
        for number in ("max_new_tokens", "max_prompt_tokens", "batch_size"):
            if getattr(self, number) < 1:
                raise InputError(f"{number} is {getattr(self, number)}.", "Give at least 1.")


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A row with its answers rewritten.

    Attributes:
        messages: The row's messages, of the same number and roles.
        kept: For each answer, in order, why it stayed as it was; None where it is new.
    """

    messages: Messages
    kept: tuple[Reason | None, ...]


def rewrite(
    rows: Sequence[Messages],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    options: SdftOptions,
    cache: Path,
    progress: AnswerProgress | None = None,
    *,
    agrees: Callable[[str, str], bool] | None = None,
) -> list[Rewritten]:
    """Let the base model rewrite every answer.

    What the model wrote is kept in ``cache``, a line at a time. StoppedError work goes on from
    there, and gives what it would have given: the same rows, model, options and library versions
    give the same answers. Other models' and other prompts' lines may be in the file; they are
    never used. Changing only what is refused generates nothing anew.

    Args:
        rows: Conversations, ``[{"role", "content"}, …]`` each.
        model: The base, on its device, without adapters.
        tokenizer: Its tokenizer. Without a chat template the messages' text is joined.
        options: How.
        cache: A JSONL file; made with its folder where there is none.
        progress: Told how many answers of how many are there.
        agrees: Given the reference and the new answer, whether they say the same; None: always.

    Returns:
        The rows, in order.

    Raises:
        DataError: If the cache is damaged elsewhere than in its last line.
        OutputError: If the cache cannot be written.
    """
    jobs = list(_jobs(rows, tokenizer, options))
    asked = {job.tokens for job in jobs if 0 < len(job.tokens) <= options.max_prompt_tokens}
    ends = end_tokens(model, tokenizer)
    salt = {
        "model": fingerprint(model),
        "tokenizer": fingerprint(tokenizer),
        "max_new_tokens": options.max_new_tokens,
        "ends": sorted(ends),
    }
    with Generations(cache, salt) as written:
        # The longest first: what does not fit into memory fails at once. Batches do not depend on
        # what is written already, as a row's numbers may depend on its neighbours.
        order = sorted(asked, key=lambda tokens: (-len(tokens), tokens))
        batches = [
            order[start : start + options.batch_size]
            for start in range(0, len(order), options.batch_size)
        ]
        done = 0
        for batch in batches:
            if any(tokens not in written for tokens in batch):
                for tokens, answer in zip(
                    batch,
                    generate(model, tokenizer, batch, ends, options.max_new_tokens),
                    strict=True,
                ):
                    written.add(tokens, answer)
            done += len(batch)
            if progress:
                progress(done, len(order))
        answers = {tokens: written[tokens] for tokens in order}
    return _apply(rows, jobs, answers, options, agrees)


def refusal(
    answer: Rollout,
    reference: str,
    options: SdftOptions,
    agrees: Callable[[str, str], bool] | None = None,
) -> Reason | None:
    """Why an answer cannot be used; None where it can.

    Args:
        answer: What the model wrote.
        reference: The answer it was given.
        options: What is refused.
        agrees: Whether reference and answer say the same.
    """
    if not answer.ended:
        return "cut off"
    if not answer.text:
        return "empty"
    lower = answer.text.lower()
    if any(phrase.lower() in lower for phrase in options.banned):
        return "banned"
    if answer.text.startswith(options.banned_starts):
        return "banned"
    if agrees is not None and not agrees(reference, answer.text):
        return "disagrees"
    return None


@dataclass(frozen=True, slots=True)
class _Job:
    """An answer to rewrite: its place, and the prompt's tokens (none: there is no instruction)."""

    row: int
    message: int
    tokens: tuple[int, ...]


def _jobs(
    rows: Sequence[Messages], tokenizer: PreTrainedTokenizerBase, options: SdftOptions
) -> Iterator[_Job]:
    for number, messages in enumerate(rows):
        for place, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = messages[:place]
            if not before or before[-1]["role"] != "user":
                yield _Job(number, place, ())
                continue
            values = {"instruction": before[-1]["content"], "reference": message["content"]}
            # At one go: a row's own text may hold the names in braces.
            asked = re.sub(
                r"\{(instruction|reference)\}",
                lambda found, values=values: values[found[1]],  # type: ignore[misc]
                options.prompt,
            )
            chat = [*before[:-1], {"role": "user", "content": asked}]
            yield _Job(number, place, _tokens(tokenizer, chat))


def _tokens(tokenizer: PreTrainedTokenizerBase, chat: Messages) -> tuple[int, ...]:
    if tokenizer.chat_template:
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        return tuple(tokenizer(text, add_special_tokens=False).input_ids)
    return tuple(tokenizer("\n\n".join(message["content"] for message in chat)).input_ids)


def _apply(
    rows: Sequence[Messages],
    jobs: Sequence[_Job],
    answers: Mapping[tuple[int, ...], Rollout],
    options: SdftOptions,
    agrees: Callable[[str, str], bool] | None,
) -> list[Rewritten]:
    messages = [[dict(message) for message in row] for row in rows]
    kept: list[list[Reason | None]] = [[] for _ in rows]
    for job in jobs:
        answer = answers.get(job.tokens)
        reference = rows[job.row][job.message]["content"]
        why: Reason | None
        if not job.tokens:
            why = "no instruction"
        elif answer is None:
            why = "prompt too long"
        else:
            why = refusal(answer, reference, options, agrees)
            if why is None:
                messages[job.row][job.message]["content"] = answer.text
        kept[job.row].append(why)
    return [Rewritten(row, tuple(why)) for row, why in zip(messages, kept, strict=True)]
