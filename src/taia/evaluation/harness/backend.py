"""What answers for a model's modes: weights in memory, or a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from taia.evaluation.harness.stages import Stages

#: Told of a piece of work: its name, how much is done, how much there is.
Watch: TypeAlias = Callable[[str, int, int | None], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """A generation in a mode.

    Attributes:
        mode: Who answers.
        prompt: What it goes on from, in the chat format where there is one.
        stages: How.
        seed: Of its draws.
    """

    mode: str
    prompt: str
    stages: Stages
    seed: int


class Backend(Protocol):
    """Answers in modes. Each method is told texts and knows nothing of tasks."""

    @property
    def tokenizer_name(self) -> str:
        """Of the tokenizer; part of lm-evaluation-harness's keys."""

    @property
    def chat_template(self) -> str | None:
        """The template, ``None`` where there is none (or only the server knows it)."""

    def apply_chat_template(
        self, chat: list[dict[str, str]], add_generation_prompt: bool, for_generation: bool
    ) -> str:
        """A conversation as a prompt.

        Args:
            chat: Its messages.
            add_generation_prompt: Whether the assistant speaks next, or goes on with the last.
            for_generation: Whether the prompt is generated from; else continuations are rated.
        """

    def likelihoods(
        self, modes: Sequence[str], pairs: Sequence[tuple[str, str]], watch: Watch
    ) -> dict[str, list[tuple[float, bool]]]:
        """Of each continuation after its context: log-probability in nats, and is it greedy."""

    def rolling(
        self, modes: Sequence[str], texts: Sequence[str], watch: Watch
    ) -> dict[str, list[float]]:
        """Log-probability in nats of each whole text, in windows as long as the model allows."""

    def losses(
        self, modes: Sequence[str], prompts: Sequence[str], watch: Watch
    ) -> dict[str, list[float]]:
        """Mean negative log-likelihood of each prompt's tokens; NaN where there are too few."""

    def generate(self, asked: Sequence[Asked], watch: Watch) -> list[str]:
        """The answers, in order."""
