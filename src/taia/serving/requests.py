"""What a request may ask, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from taia.serving.parameters import without_idle
from taia.serving.refusal import RefusedError

#: Tokens of a completion that does not say how many, as OpenAI has it.
COMPLETION_TOKENS: Final = 16
_SEED: Final = 2**63

TokenIds: TypeAlias = list[Annotated[int, Field(ge=0)]]
StopText: TypeAlias = Annotated[str, Field(min_length=1)]
Bias: TypeAlias = Annotated[float, Field(ge=-100, le=100)]
AskedT = TypeVar("AskedT", bound="RequestBody")


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class StreamOptions(_Strict):
    """How a stream is to be.

    Attributes:
        include_usage: Whether its last piece counts the tokens.
        include_obfuscation: Let through; nothing is padded here.
    """

    include_usage: bool = False
    include_obfuscation: bool = False


class RequestBody(_Strict):
    """What both kinds of request have. Names and meanings are OpenAI's and vLLM's."""

    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int = Field(1, ge=1, le=128)
    max_tokens: int | None = Field(None, ge=0)
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=-1)
    seed: int | None = Field(None, ge=-_SEED, lt=_SEED)
    stop: StopText | Annotated[list[StopText], Field(max_length=16)] = []
    logit_bias: dict[str, Bias] = {}

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts that end an answer."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def max_new_tokens(self) -> int | None:
        """The length asked for."""
        return self.max_tokens

    @property
    def alternatives(self) -> int | None:
        """How many alternatives of each token are wanted; ``None``: no log-probabilities."""
        raise NotImplementedError

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with a count of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage


class TextPart(_Strict):
    """A piece of a message; nothing but text is understood."""

    type: str = Field(pattern="^text$")
    text: str


class Message(BaseModel):
    """A turn of a conversation. What else it holds goes to the chat template."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    role: str
    content: str | list[TextPart]

    def to_template(self) -> dict[str, Any]:
        """The message as chat templates take it."""
        content = self.content
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        return {**(self.model_extra or {}), "role": self.role, "content": text}


class ChatAsked(RequestBody):
    """A request for the next turn of a conversation."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=20)
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    chat_template_kwargs: dict[str, Any] = {}

    @property
    def max_new_tokens(self) -> int | None:
        """The length asked for, by its new name or its old one."""
        new = self.max_completion_tokens
        return self.max_tokens if new is None else new

    @property
    def alternatives(self) -> int | None:
        """How many alternatives of each token are wanted; ``None``: no log-probabilities."""
        return self.top_logprobs if self.logprobs else None


class CompletionAsked(RequestBody):
    """A request to go on from one or several prompts, texts or tokens."""

    prompt: str | list[str] | TokenIds | list[TokenIds]
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool = False
    add_special_tokens: bool = True

    @property
    def alternatives(self) -> int | None:
        """How many alternatives of each token are wanted; ``None``: no log-probabilities."""
        return self.logprobs


def read(kind: type[AskedT], body: Mapping[str, Any]) -> AskedT:
    """A request from its JSON.

    Raises:
        RefusedError: If a parameter is unknown, unsupported or has a wrong value.
    """
    told = without_idle(body, frozenset(kind.model_fields))
    try:
        asked = kind.model_validate(told)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = [str(part) for part in first["loc"]]
        raise RefusedError(
            f"{'.'.join(where) or 'The request'}: {first['msg']}.",
            "See docs/serving.md for what it may be.",
            param=where[0] if where else None,
        ) from error
    _check(asked)
    return asked


def _check(asked: RequestBody) -> None:
    if asked.stream_options is not None and not asked.stream:
        raise RefusedError(
            "stream_options is given without stream.", "Add stream: true.", param="stream_options"
        )
    if isinstance(asked, ChatAsked):
        if asked.top_logprobs and not asked.logprobs:
            raise RefusedError(
                "top_logprobs is given without logprobs.",
                "Add logprobs: true.",
                param="top_logprobs",
            )
        if asked.continue_final_message and asked.add_generation_prompt:
            raise RefusedError(
                "add_generation_prompt and continue_final_message exclude each other.",
                "Add add_generation_prompt: false.",
                param="continue_final_message",
            )
    if asked.max_new_tokens == 0 and not (isinstance(asked, CompletionAsked) and asked.echo):
        raise RefusedError("max_tokens is 0.", "Ask for at least one token.", param="max_tokens")
