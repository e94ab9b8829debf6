"""What answers for a model's modes: weights in memory, or a server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from taia.evaluation.harness.encoder import Encoder, Pair
from taia.evaluation.harness.stages import Stages
from taia.evaluation.settings import Watch
from taia.runtime.rating import Likelihood


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
