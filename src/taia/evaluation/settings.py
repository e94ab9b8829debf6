"""What an evaluation can be told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

from taia.errors import InputError

#: Told of a piece of work: its name, how much is done, how much there is.
Watch: TypeAlias = Callable[[str, int, int | None], None]
#: How answers of the paper's tasks are matched.
Protocol: TypeAlias = Literal["taia", "authors"]

#: What is compared unless told otherwise.
MODES: Final = "base,tuned,taia,taif"


@dataclass(frozen=True)
class Settings:
    """What results depend on, beside weights and tasks.

    Attributes:
        limit: At most so many items of each task; ``None``: all.
        num_fewshot: Examples before each question; ``None``: as each task says.
        chat_template: Whether prompts are in the chat format; ``None``: where there is one.
        max_gen_toks: Longest answer in tokens; ``None``: as each task says.
        protocol: How answers of the paper's tasks are matched.
        seed: Of the examples shown and of draws.
        fewshot_as_multiturn: Whether examples are turns of a conversation in the chat format; else
            all stand in its one question.
        metrics: Task or group → the metric that counts, ``METRIC`` or ``METRIC,FILTER``; by default
            the first in each task's file.
    """

    limit: int | None = None
    num_fewshot: int | None = None
    chat_template: bool | None = None
    max_gen_toks: int | None = None
    protocol: Protocol = "taia"
    seed: int = 1234
    fewshot_as_multiturn: bool = True
    metrics: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Server:
    """A server of OpenAI's protocol that has a model for each mode.

    The key that it may ask for is read from ``OPENAI_API_KEY``.

    Attributes:
        url: Its address, ``/v1`` included.
        models: Mode → the model's id there; by default the mode's name.
        timeout: Seconds that an answer may take.
        attempts: How often a request is made before it counts as failed.
    """

    url: str
    models: Mapping[str, str] = field(default_factory=dict)
    timeout: int = 600
    attempts: int = 4

    def __post_init__(self) -> None:
        """Refuse what is no address.

        Raises:
            InputError: If it is not one of HTTP.
        """
        if not is_address(self.url):
            raise InputError(
                f"{self.url!r} is no address of a server.",
                "Give one such as http://localhost:8000/v1.",
            )


def is_address(url: str) -> bool:
    """Whether a text is the address of a server: of HTTP, with a host, its port a number."""
    try:
        parts = urlsplit(url)
        sound = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket that is not closed, a port that is no number
        return False
    return sound and parts.scheme in ("http", "https") and url.isprintable() and " " not in url
