"""Modes on a server of OpenAI's protocol, asked through lm-evaluation-harness's own clients.

Conversations go to ``/chat/completions`` as messages, so that the server applies its template;
the second stage goes on with the assistant's message (``continue_final_message``). Plain texts go
to ``/completions``. Continuations are rated there too, by a prompt in tokens that is echoed with
its log-probabilities, which needs the model's tokenizer here.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI
from lm_eval.models.utils import postprocess_generated_text

from taia.errors import InputError, RunError, first_line
from taia.evaluation.harness.stages import Asked, Turn, in_stages
from taia.runtime.rating import Likelihood

if TYPE_CHECKING:
    from taia.evaluation.harness.encoder import Encoder, Pair
    from taia.evaluation.settings import Server, Watch

T = TypeVar("T")

#: Tokens of the model's length that a rated text leaves free: the echo comes with one that is
#: generated, and in memory the last token need not run.
SPARE: Final = 2


@dataclass(frozen=True, slots=True)
class _Chat:
    """A conversation, and whether the last message is gone on with."""

    messages: tuple[dict[str, str], ...]
    continues: bool

    def and_then(self, text: str) -> _Chat:
        """The conversation in which the assistant has begun to answer."""
        messages, begun = list(self.messages), text
        if self.continues:
            begun = messages.pop()["content"] + text
        return _Chat((*messages, {"role": "assistant", "content": begun}), True)


class _Each:
    """Of a client of lm-evaluation-harness's: each request has settings of its own.

    The client groups requests by their settings and asks one group after the other, which is one
    request after the other where each has its seed.
    """

    def ask(self, requests: Sequence[tuple[Any, dict[str, Any]]]) -> list[Any]:
        """What each prompt is answered with, all under way together."""
        this: Any = self
        found = this.get_batched_requests(list(requests), [None] * len(requests), generate=True)
        return [answer for (answer,) in asyncio.run(found)]

    def create_message(self, messages: Sequence[Any], generate: bool = False) -> Any:  # noqa: ANN401 - lm_eval's
        (one,) = messages
        return one

    def _create_payload(self, messages: Any, **options: Any) -> dict[str, Any]:  # noqa: ANN401
        prompt, keys = messages
        base: Any = super()
        made: dict[str, Any] = base._create_payload(prompt, **{**options, "gen_kwargs": {**keys}})
        return made


class Texts(_Each, LocalCompletionsAPI):  # type: ignore[misc]  # lm_eval has no types
    """Completions of prompts."""


class _Chats(_Each, LocalChatCompletion):  # type: ignore[misc]
    """Answers to conversations."""


class ServerBackend:
    """Answers of a server; see :class:`~taia.evaluation.harness.model.Backend`.

    Args:
        server: The server.
        encoder: The models' tokenizer, if there is one here.
        rows: How many requests are under way at once.
    """

    def __init__(self, server: Server, encoder: Encoder | None, rows: int) -> None:
        self._server = server
        self._encoder = encoder
        self._rows = rows
        self._chats: dict[str, _Chat] = {}

    @property
    def encoder(self) -> Encoder:  # noqa: D102
        if self._encoder is None:
            raise InputError(
                "Rating continuations and favouring letters need the model's tokenizer.",
                "Give the model's folder or hub name as BASE; only its tokenizer is read.",
            )
        return self._encoder

    @property
    def tokenizer_name(self) -> str:  # noqa: D102
        return self._server.url if self._encoder is None else str(self._encoder.tokenizer_name)

    def apply_chat_template(  # noqa: D102
        self, chat: list[dict[str, str]], add_generation_prompt: bool, for_generation: bool
    ) -> str:
        if not for_generation:
            return self.encoder.apply_chat_template(chat, add_generation_prompt)
        text = json.dumps([chat, add_generation_prompt], ensure_ascii=False)
        self._chats[text] = _Chat(tuple(chat), not add_generation_prompt)
        return text

    def rate(self, mode: str, pairs: Sequence[Pair], watch: Watch) -> list[Likelihood]:  # noqa: D102
        watch(f"rating in mode {mode}", 0, len(pairs))
        client = client_of(self._server, LocalCompletionsAPI, mode, self._rows)
        client.tokenizer, client.tokenized_requests = self.encoder.tokenizer, True
        client.max_length = sys.maxsize  # the encoder has cut them already
        requests = [(("", ""), list(context), list(option)) for context, option in pairs]
        found = self.ask(lambda: list(client._loglikelihood_tokens(requests)))
        watch(f"rating in mode {mode}", len(pairs), len(pairs))
        return [Likelihood(*one) for one in found]

    def generate(self, asked: Sequence[Asked], watch: Watch) -> list[str]:  # noqa: D102
        return in_stages(asked, self._generate, watch)

    def _generate(self, turns: Sequence[Turn], name: str, watch: Watch) -> list[str]:
        texts = [""] * len(turns)
        groups: dict[tuple[str, bool], list[int]] = {}
        for place, turn in enumerate(turns):
            is_chat = turn.asked.prompt in self._chats
            groups.setdefault((turn.asked.mode, is_chat), []).append(place)
        for (mode, is_chat), places in groups.items():
            watch(f"{name} in mode {mode}", 0, len(places))
            client = client_of(self._server, _Chats if is_chat else Texts, mode, self._rows)
            requests = [self._request(turns[place], is_chat) for place in places]
            found = self.ask(partial(client.ask, requests))
            for place, text in zip(places, found, strict=True):
                texts[place] = postprocess_generated_text(
                    text, list(turns[place].stage.until), None
                )
            watch(f"{name} in mode {mode}", len(places), len(places))
        return texts

    def _request(self, turn: Turn, is_chat: bool) -> tuple[Any, dict[str, Any]]:
        prompt = turn.asked.prompt
        keys = settings_of(turn, self.encoder if turn.stage.letters else None)
        if not is_chat:
            return prompt + turn.begun, keys
        chat = self._chats[prompt].and_then(turn.begun) if turn.begun else self._chats[prompt]
        if chat.continues:
            keys |= {"continue_final_message": True, "add_generation_prompt": False}
        return list(chat.messages), keys

    def ask(self, ask: Callable[[], list[T]]) -> list[T]:
        """What one of its clients is answered with.

        Raises:
            RunError: If the server fails, after all attempts.
        """
        try:
            return ask()
        except Exception as error:  # several clients' errors have no common class
            raise RunError(
                f"{self._server.url} failed {self._server.attempts} times: {first_line(error)}.",
                "Check the address, the models' ids (--model-of) and OPENAI_API_KEY.",
            ) from error


def settings_of(turn: Turn, encoder: Encoder | None) -> dict[str, Any]:
    """How a turn is generated, as lm-evaluation-harness's clients are told.

    Args:
        turn: The turn.
        encoder: The model's tokenizer, which letters that are favoured need.
    """
    stage = turn.stage
    keys: dict[str, Any] = {
        "max_gen_toks": stage.max_new_tokens,
        "until": list(stage.until),
        "temperature": stage.temperature,
        "seed": turn.seed,
    }
    if stage.temperature:
        keys |= {"top_p": stage.top_p}
        keys |= {"top_k": stage.top_k} if stage.top_k else {}
    if encoder is not None and stage.letters:
        keys["logit_bias"] = {str(encoder.letter(one)): stage.letter_bias for one in stage.letters}
    return keys


def client_of(server: Server, kind: type[Any], mode: str, rows: int) -> Any:  # noqa: ANN401 - lm_eval has no types
    """One of lm-evaluation-harness's clients.

    Args:
        server: The server.
        kind: The client's class.
        mode: Whose model answers.
        rows: How many requests are under way at once.
    """
    path = "chat/completions" if issubclass(kind, LocalChatCompletion) else "completions"
    return kind(
        model=server.models.get(mode, mode),
        base_url=f"{server.url.rstrip('/')}/{path}",
        tokenizer_backend=None,
        # With one request at a time they are sent by another client, which cannot be stopped.
        num_concurrent=max(2, rows),
        max_retries=server.attempts,
        timeout=server.timeout,
        header=None if server.key is None else {"Authorization": f"Bearer {server.key}"},
    )
