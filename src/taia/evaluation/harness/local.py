"""Modes of a model in memory: loaded once, switched in place."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from taia.evaluation.harness.backend import Asked, Watch
from taia.evaluation.harness.encoder import Encoder, Pair
from taia.evaluation.harness.stages import Stage, lead
from taia.evaluation.likelihood import Likelihood, Request, likelihoods
from taia.runtime.engine import Engine
from taia.runtime.generation import Generation

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from taia.runtime.switchable import SwitchableModel


class LocalBackend:
    """Answers of a switchable model; see :class:`~taia.evaluation.harness.backend.Backend`.

    Args:
        encoder: Turns texts into tokens.
        load: Gives the model, with all modes that will be asked; called when first needed.
        max_rows: How many answers are generated at once.
    """

    def __init__(
        self, encoder: Encoder, load: Callable[[], SwitchableModel], max_rows: int
    ) -> None:
        self._encoder = encoder
        self._tokenizer: PreTrainedTokenizerBase = encoder.tokenizer
        self._load = load
        self._max_rows = max_rows

    @cached_property
    def _model(self) -> SwitchableModel:
        return self._load()

    @cached_property
    def _engine(self) -> Engine:
        return Engine(self._model, self._tokenizer, max_rows=self._max_rows)

    @cached_property
    def _end(self) -> frozenset[int]:
        return _ends(self._model, self._tokenizer)

    @property
    def tokenizer_name(self) -> str:  # noqa: D102
        return str(self._encoder.tokenizer_name)

    @property
    def chat_template(self) -> str | None:  # noqa: D102
        template: Any = self._tokenizer.chat_template
        return None if template is None else str(template)

    def apply_chat_template(  # noqa: D102
        self, chat: list[dict[str, str]], add_generation_prompt: bool, for_generation: bool
    ) -> str:
        return str(self._encoder.apply_chat_template(chat, add_generation_prompt))

    def likelihoods(  # noqa: D102
        self, modes: Sequence[str], pairs: Sequence[tuple[str, str]], watch: Watch
    ) -> dict[str, list[tuple[float, bool]]]:
        encoded = self._encoder.pairs(pairs)
        return {mode: [tuple(one) for one in self._rate(mode, encoded, watch)] for mode in modes}

    def rolling(  # noqa: D102
        self, modes: Sequence[str], texts: Sequence[str], watch: Watch
    ) -> dict[str, list[float]]:
        windows = [self._encoder.windows(text) for text in texts]
        flat = [window for of_text in windows for window in of_text]
        found = {}
        for mode in modes:
            rated = iter(self._rate(mode, flat, watch))
            found[mode] = [sum(next(rated).logprob for _ in of_text) for of_text in windows]
        return found

    def losses(  # noqa: D102
        self, modes: Sequence[str], prompts: Sequence[str], watch: Watch
    ) -> dict[str, list[float]]:
        encoded = [self._encoder.prompt(prompt, 1) for prompt in prompts]
        pairs = [(ids[:1], ids[1:]) for ids in encoded if len(ids) > 1]
        found = {}
        for mode in modes:
            rated = iter(self._rate(mode, pairs, watch))
            found[mode] = [
                -next(rated).logprob / (len(ids) - 1) if len(ids) > 1 else math.nan
                for ids in encoded
            ]
        return found

    def generate(self, asked: Sequence[Asked], watch: Watch) -> list[str]:  # noqa: D102
        firsts = [(one.mode, one.prompt, one.stages.first, one.seed) for one in asked]
        texts = self._generate(firsts, "generating", watch)
        again = [i for i, one in enumerate(asked) if one.stages.second is not None]
        begun = {i: texts[i] + lead(texts[i]) for i in again}
        seconds = [
            (asked[i].mode, asked[i].prompt + begun[i], second, asked[i].seed)
            for i in again
            if (second := asked[i].stages.second) is not None
        ]
        ends = self._generate(seconds, "second stage", watch)
        for i, end in zip(again, ends, strict=True):
            texts[i] = begun[i] + end
        return texts

    def _generate(
        self, asked: Sequence[tuple[str, str, Stage, int]], name: str, watch: Watch
    ) -> list[str]:
        requests = [self._request(*one) for one in asked]
        if not requests:
            return []
        made = self._engine.generate(requests, _counter(name, len(requests), watch))
        return [
            self._encoder.text([token.id for token in answer.tokens], stage.until)
            for answer, (_, _, stage, _) in zip(made, asked, strict=True)
        ]

    def _request(self, mode: str, prompt: str, stage: Stage, seed: int) -> Generation:
        return Generation(
            mode=mode,
            prompt=self._encoder.prompt(prompt, stage.max_new_tokens),
            max_new_tokens=stage.max_new_tokens,
            end=self._end,
            stop=stage.until,
            temperature=stage.temperature,
            top_p=stage.top_p,
            top_k=stage.top_k,
            seed=seed,
            logit_bias={self._letter(letter): stage.letter_bias for letter in stage.letters},
        )

    def _letter(self, letter: str) -> int:
        """A letter's token; where it is several, the one that holds the letter."""
        return int(self._tokenizer.encode(letter, add_special_tokens=False)[-1])

    def _rate(self, mode: str, pairs: Sequence[Pair], watch: Watch) -> list[Likelihood]:
        """Rate continuations in a mode; each context runs once."""
        contexts: dict[tuple[int, ...], dict[tuple[int, ...], None]] = {}
        for context, continuation in pairs:
            contexts.setdefault(context, {})[continuation] = None
        requests = [Request(context, tuple(options)) for context, options in contexts.items()]
        count = _counter(f"rating in mode {mode}", len(requests), watch)
        with self._model.mode(mode):
            rows = likelihoods(self._model.model, requests, progress=count)
        rated = {
            (request.prompt, option): likelihood
            for request, row in zip(requests, rows, strict=True)
            for option, likelihood in zip(request.options, row, strict=True)
        }
        return [rated[pair] for pair in pairs]


def _counter(name: str, total: int, watch: Watch) -> Callable[[int], None]:
    """Tells how much of a piece of work is done, from how much was just done."""
    done = 0
    watch(name, done, total)

    def count(number: int) -> None:
        nonlocal done
        done += number
        watch(name, done, total)

    return count


def _ends(model: SwitchableModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Tokens that end an answer: the tokenizer's, and those that the model was saved with."""
    config: Any = getattr(model.model, "generation_config", None)
    own = getattr(config, "eos_token_id", None)
    several = own if isinstance(own, list) else [own]
    return frozenset(
        int(token) for token in [*several, tokenizer.eos_token_id] if token is not None
    )
