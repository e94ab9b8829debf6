"""Modes on a server of OpenAI's protocol, asked through lm-evaluation-harness's own clients.

Conversations go to ``/chat/completions`` as messages, so that the server applies its template;
the second stage goes on with the assistant's message (``continue_final_message``). Plain texts go
to ``/completions``. Continuations are rated there too, by a prompt in tokens that is echoed with
its log-probabilities, which needs the model's tokenizer here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lm_eval.api.instance import Instance
from lm_eval.models.api_models import JsonChatStr
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
        client = self._client(LocalCompletionsAPI, mode, "completions")
        client.tokenizer, client.tokenized_requests = self.encoder.tokenizer, True
        client.max_length = sys.maxsize  # the encoder has cut them already
        requests = [(("", ""), list(context), list(option)) for context, option in pairs]
        found = self._ask(lambda: list(client._loglikelihood_tokens(requests)))
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
            kind, path = (
                (LocalChatCompletion, "chat/completions")
                if is_chat
                else (LocalCompletionsAPI, "completions")
            )
            client = self._client(kind, mode, path)
            requests = [self._instance(turns[place], is_chat) for place in places]
            found = self._ask(partial(client.generate_until, requests))
            for place, text in zip(places, found, strict=True):
                texts[place] = postprocess_generated_text(
                    text, list(turns[place].stage.until), None
                )
            watch(f"{name} in mode {mode}", len(places), len(places))
        return texts

    def _instance(self, turn: Turn, is_chat: bool) -> Instance:
        stage, prompt = turn.stage, turn.asked.prompt
        keys: dict[str, Any] = {
            "max_gen_toks": stage.max_new_tokens,
            "until": list(stage.until),
            "temperature": stage.temperature,
            "seed": turn.seed,
        }
        if stage.temperature:
            keys |= {"top_p": stage.top_p}
            keys |= {"top_k": stage.top_k} if stage.top_k else {}
        if stage.letters:
            keys["logit_bias"] = {
                str(self.encoder.letter(one)): stage.letter_bias for one in stage.letters
            }
        if not is_chat:
            return Instance("generate_until", {}, (prompt + turn.begun, keys), 0)
        chat = self._chats[prompt].and_then(turn.begun) if turn.begun else self._chats[prompt]
        if chat.continues:
            keys |= {"continue_final_message": True, "add_generation_prompt": False}
        messages = JsonChatStr(json.dumps(chat.messages, ensure_ascii=False))
        return Instance("generate_until", {}, (messages, keys), 0)

    def _client(self, kind: type[Any], mode: str, path: str) -> Any:  # noqa: ANN401 - lm_eval has no types
        return kind(
            model=self._server.models.get(mode, mode),
            base_url=f"{self._server.url.rstrip('/')}/{path}",
            tokenizer_backend=None,
            # With one request at a time they are sent by another client, which cannot be stopped.
            num_concurrent=max(2, self._rows),
            max_retries=self._server.attempts,
            timeout=self._server.timeout,
        )

    def _ask(self, ask: Callable[[], list[T]]) -> list[T]:
        try:
            return ask()
        except Exception as error:  # several clients' errors have no common class
            raise RunError(
                f"{self._server.url} failed {self._server.attempts} times: {first_line(error)}.",
                "Check the address, the models' ids (--model-of) and OPENAI_API_KEY.",
            ) from error
