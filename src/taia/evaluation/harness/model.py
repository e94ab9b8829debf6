"""The model that lm-evaluation-harness talks to: one of several modes, answered together.

lm-evaluation-harness asks one model about one task at a time. The first time it asks, the answers
of all the modes that are wanted are computed, so that their generations share batches and their
likelihoods share tokenising; the following modes find theirs in memory. An answer is remembered
under its mode, the kind of request and its arguments, so nothing is ever another mode's.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

from lm_eval.api.model import LM

from taia.errors import RunError
from taia.evaluation.harness.encoder import Encoder, Pair
from taia.evaluation.harness.stages import Asked, read_stages
from taia.evaluation.loracl import LORACL, Answerer, choose
from taia.evaluation.settings import Watch
from taia.runtime.rating import Likelihood

#: The modes that LoRACL chooses from.
SOURCES: Final[tuple[Answerer, ...]] = ("base", "tuned")

#: From modes and work to each mode's answers, in the work's order.
_Compute: TypeAlias = Callable[[Sequence[str], Sequence[Any]], Mapping[str, Sequence[Any]]]


class Backend(Protocol):
    """Answers in modes. It is told texts and tokens, and knows nothing of tasks."""

    @property
    def encoder(self) -> Encoder:
        """Turns texts into tokens.

        Raises:
            InputError: If there is no tokenizer.
        """

    @property
    def tokenizer_name(self) -> str:
        """Part of lm-evaluation-harness's keys."""

    def apply_chat_template(
        self, chat: list[dict[str, str]], add_generation_prompt: bool, for_generation: bool
    ) -> str:
        """A conversation as a prompt.

        Args:
            chat: Its messages.
            add_generation_prompt: Whether the assistant speaks next, or goes on with the last.
            for_generation: Whether the prompt is generated from; else continuations are rated.
        """

    def rate(self, mode: str, pairs: Sequence[Pair], watch: Watch) -> list[Likelihood]:
        """How likely each continuation is after its context."""

    def generate(self, asked: Sequence[Asked], watch: Watch) -> list[str]:
        """The answers, in order."""


@dataclass(frozen=True, slots=True)
class _Request:
    """A request: what tells it apart, its prompt, and what the backend is given."""

    key: Hashable
    prompt: str
    work: Any


class ModesLM(LM):  # type: ignore[misc]  # lm_eval has no types
    """A model with modes, in one of them.

    Attributes:
        mode: Whose answers are given.
        wanted: The modes that are computed together when the first of them is asked.
        task: What progress is told of.
        seconds: How long the answers of the modes together took to compute so far.
        for_generation: Whether the prompts being made are generated from.
    """

    def __init__(
        self, backend: Backend, watch: Watch, *, seed: int = 0, max_new_tokens: int | None = None
    ) -> None:
        super().__init__()
        self.mode = ""
        self.wanted: Sequence[str] = ()
        self.task = ""
        self.seconds = 0.0
        self.for_generation = False
        self._backend = backend
        self._watch = watch
        self._seed = seed
        self._max_new_tokens = max_new_tokens
        self._memory: dict[tuple[str, str, Hashable], Any] = {}

    def forget(self) -> None:
        """Drop all answers: the task is over."""
        self._memory.clear()
        self.seconds = 0.0

    @property
    def tokenizer_name(self) -> str:
        """Of the tokenizer."""
        return self._backend.tokenizer_name

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A conversation as a prompt."""
        return self._backend.apply_chat_template(
            chat_history, add_generation_prompt, self.for_generation
        )

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Log-probability of each continuation after its context, and whether it is greedy."""
        made = [_Request(r.args, str(r.args[0]), r.args) for r in requests]
        answers: list[Likelihood] = self._answers("likelihood", made, self._likelihoods)
        _check_finite([answer.logprob for answer in answers], self.mode)
        return [(answer.logprob, answer.is_greedy) for answer in answers]

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        """Log-probability of each whole text."""
        made = [_Request(r.args, str(r.args[0]), str(r.args[0])) for r in requests]
        answers: list[float] = self._answers("rolling", made, self._rolling)
        _check_finite(answers, self.mode)
        return answers

    def generate_until(self, requests: list[Any]) -> list[str]:
        """A generation from each context.

        What is drawn is drawn anew for each item and each repetition of it: a draw depends on the
        seed, the task, the item and the prompt, and on nothing that runs beside it. What is not
        drawn is computed once for all that ask the same.
        """
        made, seen = [], Counter[str]()
        for request in requests:
            prompt, kwargs = request.args
            stages = read_stages(kwargs, self._max_new_tokens)
            what = json.dumps([prompt, kwargs], sort_keys=True)
            item = json.dumps([request.task_name, request.doc_id, request.idx, what])
            key = (item, seen[item]) if stages.is_drawn else what
            work = (str(prompt), stages, _seed(self._seed, item, seen[item]))
            made.append(_Request(key, str(prompt), work))
            seen[item] += 1
        answers: list[str] = self._answers("generation", made, self._generate)
        return answers

    def _likelihoods(
        self, modes: Sequence[str], work: Sequence[tuple[str, str]]
    ) -> dict[str, list[Likelihood]]:
        pairs = self._backend.encoder.pairs(work)
        return {mode: self._backend.rate(mode, pairs, self._tell) for mode in modes}

    def _rolling(self, modes: Sequence[str], work: Sequence[str]) -> dict[str, list[float]]:
        windows = [self._backend.encoder.windows(text) for text in work]
        flat = [window for of_text in windows for window in of_text]
        found = {}
        for mode in modes:
            rated = iter(self._backend.rate(mode, flat, self._tell))
            found[mode] = [sum(next(rated).logprob for _ in of_text) for of_text in windows]
        return found

    def _losses(self, modes: Sequence[str], work: Sequence[str]) -> dict[str, list[float]]:
        """Mean negative log-likelihood of each prompt's tokens; NaN where there is only one."""
        prompts = [self._backend.encoder.prompt(text, 1) for text in work]
        pairs = [(ids[:1], ids[1:]) for ids in prompts if len(ids) > 1]
        found = {}
        for mode in modes:
            rated = iter(self._backend.rate(mode, pairs, self._tell))
            found[mode] = [
                -next(rated).logprob / (len(ids) - 1) if len(ids) > 1 else math.nan
                for ids in prompts
            ]
        return found

    def _generate(
        self, modes: Sequence[str], work: Sequence[tuple[Any, ...]]
    ) -> dict[str, list[str]]:
        texts = self._backend.generate([Asked(m, *one) for m in modes for one in work], self._tell)
        size = len(work)
        return {mode: texts[i * size : (i + 1) * size] for i, mode in enumerate(modes)}

    def _tell(self, work: str, done: int, total: int | None) -> None:
        self._watch(f"{self.task}: {work}", done, total)

    def _answers(self, kind: str, requests: Sequence[_Request], compute: _Compute) -> list[Any]:
        """The mode's answers, after what the wanted modes lack is computed."""
        modes = list(dict.fromkeys([*self.wanted, self.mode]))
        if LORACL in modes:
            modes = list(dict.fromkeys([*SOURCES, *(m for m in modes if m != LORACL)]))
        self._complete(kind, modes, {r.key: r.work for r in requests}, compute)
        sources = self._chosen([r.prompt for r in requests]) if self.mode == LORACL else {}
        return [self._memory[sources.get(r.prompt, self.mode), kind, r.key] for r in requests]

    def _complete(
        self, kind: str, modes: Sequence[str], work: Mapping[Hashable, Any], compute: _Compute
    ) -> None:
        """Compute what is not in memory, of all modes that lack anything."""
        lacking = [m for m in modes if any((m, kind, key) not in self._memory for key in work)]
        todo = [k for k in work if any((m, kind, k) not in self._memory for m in lacking)]
        if not todo:
            return
        start = time.perf_counter()
        found = compute(lacking, [work[key] for key in todo])
        self.seconds += time.perf_counter() - start
        for mode in lacking:
            for key, answer in zip(todo, found[mode], strict=True):
                self._memory[mode, kind, key] = answer

    def _chosen(self, prompts: Sequence[str]) -> dict[str, Answerer]:
        """Prompt → whichever of base and tuned LoRACL lets answer it."""
        distinct = list(dict.fromkeys(prompts))
        self._complete(
            "loss",
            SOURCES,
            {prompt: prompt for prompt in distinct},
            self._losses,
        )
        base, tuned = ([self._memory[m, "loss", p] for p in distinct] for m in SOURCES)
        return dict(zip(distinct, choose(base, tuned), strict=True))


def _seed(*parts: object) -> int:
    """A seed of its own for whatever is told apart; 32 bits, which every server takes."""
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:4])


def _check_finite(values: Sequence[float], mode: str) -> None:
    if not all(math.isfinite(value) for value in values):
        raise RunError(
            f"In mode {mode} the model's log-probabilities are not numbers.",
            "Check the weights, or compute in another --dtype.",
        )
