"""Answers of a vLLM, in tokens: prompts go there as transformers would read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from operator import itemgetter
from typing import Any

from taia.errors import RunError
from taia.evaluation.harness.encoder import Encoder, Pair
from taia.evaluation.harness.server import ServerBackend, Texts, client_of, settings_of
from taia.evaluation.harness.stages import Asked, Turn, in_stages
from taia.evaluation.settings import Server, Watch
from taia.evaluation.vllm.child import Child
from taia.runtime.rating import Likelihood


@dataclass(frozen=True)
class Started:
    """A vLLM that has passed its check.

    Attributes:
        child: It.
        server: Its address, its key, and its model for each mode.
        encoder: The models' tokenizer, with the length that vLLM reads.
        end: Tokens that end an answer.
    """

    child: Child
    server: Server
    encoder: Encoder
    end: frozenset[int]


class VllmBackend:
    """Answers of a vLLM; see :class:`~taia.evaluation.harness.model.Backend`.

    Args:
        encoder: The models' tokenizer.
        start: Starts vLLM; called when first needed.
        rows: How many requests are under way at once.
    """

    def __init__(self, encoder: Encoder, start: Callable[[], Started], rows: int) -> None:
        self._encoder = encoder
        self._start = start
        self._rows = rows

    @cached_property
    def _started(self) -> Started:
        return self._start()

    @cached_property
    def _server(self) -> ServerBackend:
        return ServerBackend(self._started.server, self._started.encoder, self._rows)

    @property
    def encoder(self) -> Encoder:  # noqa: D102
        return self._started.encoder

    @property
    def tokenizer_name(self) -> str:  # noqa: D102
        return str(self._encoder.tokenizer_name)

    def apply_chat_template(  # noqa: D102
        self, chat: list[dict[str, str]], add_generation_prompt: bool, for_generation: bool
    ) -> str:
        return self._encoder.apply_chat_template(chat, add_generation_prompt)

    def rate(self, mode: str, pairs: Sequence[Pair], watch: Watch) -> list[Likelihood]:  # noqa: D102
        with self._blaming():
            return self._server.rate(mode, pairs, watch)

    def generate(self, asked: Sequence[Asked], watch: Watch) -> list[str]:  # noqa: D102
        return in_stages(asked, self._generate, watch)

    def _generate(self, turns: Sequence[Turn], name: str, watch: Watch) -> list[str]:
        texts = [""] * len(turns)
        places: dict[str, list[int]] = {}
        for place, turn in enumerate(turns):
            places.setdefault(turn.asked.mode, []).append(place)
        for mode, own in places.items():
            watch(f"{name} in mode {mode}", 0, len(own))
            client = client_of(self._started.server, _Tokens, mode, self._rows)
            requests = [self._request(turns[place]) for place in own]
            with self._blaming():
                found = self._server.ask(partial(client.ask, requests))
            for place, tokens in zip(own, found, strict=True):
                texts[place] = self.encoder.text(tokens, turns[place].stage.until)
            watch(f"{name} in mode {mode}", len(own), len(own))
        return texts

    def _request(self, turn: Turn) -> tuple[list[list[int]], dict[str, Any]]:
        prompt = self.encoder.prompt(turn.asked.prompt + turn.begun, turn.stage.max_new_tokens)
        # Which tokens end an answer vLLM knows of the base alone.
        vllms = {"stop_token_ids": sorted(self._started.end), "return_token_ids": True}
        return [list(prompt)], settings_of(turn, self.encoder) | vllms

    @contextmanager
    def _blaming(self) -> Iterator[None]:
        try:
            yield
        except RunError as error:
            raise self._started.child.failed(error.problem.rstrip(".")) from error


class _Tokens(Texts):
    """Completions of prompts in tokens, in tokens."""

    @staticmethod
    def parse_generations(outputs: dict[str, Any], **_: object) -> list[list[int]]:
        choices = sorted(outputs["choices"], key=itemgetter("index"))
        return [choice["token_ids"] for choice in choices]
