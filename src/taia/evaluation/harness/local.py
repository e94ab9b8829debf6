"""Modes of a model in memory: loaded once, switched in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from taia.evaluation.harness.encoder import Encoder, Pair
from taia.evaluation.harness.stages import Asked, Turn, in_stages
from taia.evaluation.settings import Watch
from taia.loading.models import end_tokens
from taia.runtime.engine import Engine
from taia.runtime.generation import Generation
from taia.runtime.likelihood import likelihoods
from taia.runtime.rating import Likelihood, Request

if TYPE_CHECKING:
    from taia.runtime.switchable import SwitchableModel


class LocalBackend:
    """Answers of a switchable model; see :class:`~taia.evaluation.harness.model.Backend`.

    Args:
        encoder: Turns texts into tokens.
        load: Gives the model, with all modes that will be asked; called when first needed.
        max_rows: How many answers are generated at once.
    """

    def __init__(
        self, encoder: Encoder, load: Callable[[], SwitchableModel], max_rows: int
    ) -> None:
        self.encoder = encoder
        self._load = load
        self._max_rows = max_rows

    @cached_property
    def _model(self) -> SwitchableModel:
        return self._load()

    @cached_property
    def _engine(self) -> Engine:
        return Engine(self._model, self.encoder.tokenizer, max_rows=self._max_rows)

    @cached_property
    def _end(self) -> frozenset[int]:
        return end_tokens(self._model.model, self.encoder.tokenizer)

    @property
    def tokenizer_name(self) -> str:  # noqa: D102
        return str(self.encoder.tokenizer_name)

    def apply_chat_template(  # noqa: D102
        self, chat: list[dict[str, str]], add_generation_prompt: bool, for_generation: bool
    ) -> str:
        return self.encoder.apply_chat_template(chat, add_generation_prompt)

    def rate(self, mode: str, pairs: Sequence[Pair], watch: Watch) -> list[Likelihood]:  # noqa: D102
        contexts: dict[tuple[int, ...], dict[tuple[int, ...], None]] = {}
        for context, continuation in pairs:  # each context runs once
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

    def generate(self, asked: Sequence[Asked], watch: Watch) -> list[str]:  # noqa: D102
        return in_stages(asked, self._generate, watch)

    def _generate(self, turns: Sequence[Turn], name: str, watch: Watch) -> list[str]:
        requests = [self._request(turn) for turn in turns]
        made = self._engine.generate(requests, _counter(name, len(requests), watch))
        return [
            self.encoder.text([token.id for token in answer.tokens], turn.stage.until)
            for answer, turn in zip(made, turns, strict=True)
        ]

    def _request(self, turn: Turn) -> Generation:
        stage = turn.stage
        return Generation(
            mode=turn.asked.mode,
            prompt=self.encoder.prompt(turn.asked.prompt + turn.begun, stage.max_new_tokens),
            max_new_tokens=stage.max_new_tokens,
            end=self._end,
            stop=stage.until,
            temperature=stage.temperature,
            top_p=stage.top_p,
            top_k=stage.top_k,
            seed=turn.seed,
            logit_bias={self.encoder.letter(one): stage.letter_bias for one in stage.letters},
        )


def _counter(name: str, total: int, watch: Watch) -> Callable[[int], None]:
    """Tells how much of a piece of work is done, from how much was just done."""
    done = 0
    watch(name, done, total)

    def count(number: int) -> None:
        nonlocal done
        done += number
        watch(name, done, total)

    return count
