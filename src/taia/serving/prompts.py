"""From a request to what the engine is asked: prompts in tokens, and how to go on from them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taia.errors import first_line
from taia.runtime.check import Limits
from taia.runtime.generation import Generation
from taia.serving.refusal import RefusedError
from taia.serving.requests import COMPLETION_TOKENS, ChatAsked, CompletionAsked, RequestBody

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Prompter:
    """Makes prompts of requests.

    Attributes:
        tokenizer: Whose tokens and chat template.
        end: Tokens that end an answer.
        limits: What the model's shape allows.
        max_tokens: The longest answer that is allowed.
    """

    tokenizer: PreTrainedTokenizerBase
    end: frozenset[int]
    limits: Limits
    max_tokens: int

    def prompts(self, asked: RequestBody) -> list[tuple[int, ...]]:
        """The prompts of a request, in tokens.

        Raises:
            RefusedError: If one is empty, too long, or not in this model's tokens; or if a
                conversation does not fit the chat template.
        """
        if isinstance(asked, ChatAsked):
            found, param = [self._chat(asked)], "messages"
        else:
            assert isinstance(asked, CompletionAsked)
            found, param = self._completion(asked), "prompt"
        return [self._checked(tuple(tokens), param) for tokens in found]

    def generations(
        self, asked: RequestBody, prompts: Sequence[tuple[int, ...]]
    ) -> list[Generation]:
        """What the engine is asked: n answers to each prompt, in order; none for no tokens.

        Raises:
            RefusedError: If an answer of that length is not allowed, or a bias is on no token.
        """
        bias = {self._token(name): value for name, value in asked.logit_bias.items()}
        lengths = [self._length(asked, len(prompt)) for prompt in prompts]
        return [
            Generation(
                mode=asked.model,
                prompt=prompt,
                max_new_tokens=length,
                end=self.end,
                stop=asked.stops,
                temperature=asked.temperature,
                top_p=asked.top_p,
                top_k=max(asked.top_k, 0),
                seed=None if asked.seed is None else (asked.seed + index) % 2**63,
                logit_bias=bias,
                logprobs=asked.alternatives,
            )
            for prompt, length in zip(prompts, lengths, strict=True)
            for index in range(asked.n)
            if length
        ]

    def _chat(self, asked: ChatAsked) -> list[int]:
        if not self.tokenizer.chat_template:
            raise RefusedError("This model has no chat template.", "Use /v1/completions.")
        settings = asked.chat_template_kwargs
        if own := sorted(settings.keys() & _own_arguments(self.tokenizer)):
            raise RefusedError(
                f"chat_template_kwargs may not set {own[0]!r}.",
                "Give only what the chat template itself reads.",
                param="chat_template_kwargs",
            )
        try:
            made: Any = self.tokenizer.apply_chat_template(
                [message.to_template() for message in asked.messages],
                add_generation_prompt=asked.add_generation_prompt,
                continue_final_message=asked.continue_final_message,
                tokenize=True,
                return_dict=True,
                **settings,
            )
        except Exception as error:  # a template is a program, and says no in its own ways
            raise RefusedError(
                f"The chat template does not take these messages: {first_line(error)}.",
                "Check their roles and order.",
                param="messages",
            ) from error
        return list(made["input_ids"])

    def _completion(self, asked: CompletionAsked) -> list[list[int]]:
        given = asked.prompt
        if isinstance(given, str):
            given = [given]
        elif given and isinstance(given[0], int):
            return [[token for token in given if isinstance(token, int)]]
        return [
            self.tokenizer.encode(prompt, add_special_tokens=asked.add_special_tokens)
            if isinstance(prompt, str)
            else list(prompt)
            for prompt in given
            if not isinstance(prompt, int)
        ]

    def _checked(self, prompt: tuple[int, ...], param: str) -> tuple[int, ...]:
        if not prompt:
            raise RefusedError("A prompt has no tokens.", "Give at least one.", param=param)
        if (largest := max(prompt)) >= self.limits.tokens:
            raise RefusedError(
                f"There is no token {largest}.",
                f"This model has the tokens 0 to {self.limits.tokens - 1}.",
                param=param,
            )
        if self.limits.positions is not None and len(prompt) > self.limits.positions:
            raise self._too_long(f"The prompt has {len(prompt)} tokens", param)
        return prompt

    def _length(self, asked: RequestBody, prompt: int) -> int:
        wanted, room = asked.max_new_tokens, self.max_tokens
        param = "messages" if isinstance(asked, ChatAsked) else "prompt"
        if self.limits.positions is not None:
            room = min(room, self.limits.positions - prompt)
        if wanted is None:
            if room < 1:
                raise self._too_long(f"The prompt has {prompt} tokens", param)
            return room if isinstance(asked, ChatAsked) else min(room, COMPLETION_TOKENS)
        if wanted > self.max_tokens:
            raise RefusedError(
                f"{wanted} tokens are asked for.",
                f"This server gives at most {self.max_tokens} (its --max-tokens).",
                param="max_tokens",
            )
        if wanted > room:
            raise self._too_long(
                f"The prompt has {prompt} tokens and {wanted} more are asked for", param
            )
        return wanted

    def _too_long(self, what: str, param: str) -> RefusedError:
        return RefusedError(
            f"{what}; this model's context is {self.limits.positions}.",
            "Shorten the prompt, or ask for fewer tokens.",
            param=param,
            code="context_length_exceeded",
        )

    def _token(self, name: str) -> int:
        if name.isascii() and name.isdigit() and len(name) < 10 and int(name) < self.limits.tokens:
            return int(name)
        raise RefusedError(
            f"logit_bias names {name!r}, which is no token.",
            f"Name tokens by their numbers, 0 to {self.limits.tokens - 1}.",
            param="logit_bias",
        )


def _own_arguments(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """What ``apply_chat_template`` takes for itself."""
    parameters: Any = inspect.signature(tokenizer.apply_chat_template).parameters
    return set(parameters)
