"""Modes side by side on the same questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taia.evaluation.scores.statistics import Difference, Estimate, accuracy, difference
from taia.evaluation.tasks.questions import Question


@dataclass(frozen=True)
class Comparison:
    """What each mode answered.

    A *group* below is a kind of question, or one of two words that stand for several: ``skill``
    for the kind that training teaches, ``knowledge`` for all the others together.

    Attributes:
        questions: What was asked.
        selections: Mode → the selection it stands for, in the order shown.
        scores: Mode → each question's score of each option.
        skill: The kind of question that training teaches.
    """

    questions: tuple[Question, ...]
    selections: Mapping[str, str]
    scores: Mapping[str, Sequence[Sequence[float]]]
    skill: str = "trained"

    @property
    def modes(self) -> tuple[str, ...]:
        """The modes, in the order shown."""
        return tuple(self.selections)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of knowledge asked for, in the order they first come up."""
        return tuple(dict.fromkeys(q.kind for q in self.questions if q.kind != self.skill))

    @property
    def groups(self) -> tuple[str, ...]:
        """Every kind of knowledge, then ``knowledge`` and ``skill``; only those with questions."""
        return tuple(g for g in (*self.kinds, "knowledge", "skill") if self.size(g))

    def chosen(self, mode: str) -> list[int]:
        """Per question, the option that scores highest; of equals, the first."""
        return [max(range(len(row)), key=row.__getitem__) for row in self.scores[mode]]

    def right(self, mode: str, group: str) -> list[bool]:
        """Per question of a group, whether a mode answers it rightly."""
        return [
            choice == question.answer
            for choice, question in zip(self.chosen(mode), self.questions, strict=True)
            if self._is_in(question, group)
        ]

    def size(self, group: str) -> int:
        """Number of questions in a group."""
        return sum(self._is_in(question, group) for question in self.questions)

    def chance(self, group: str) -> float:
        """The accuracy of guessing."""
        odds = [1 / len(q.options) for q in self.questions if self._is_in(q, group)]
        return sum(odds) / len(odds) if odds else 0.0

    def accuracy(self, mode: str, group: str) -> Estimate:
        """A mode's accuracy in a group, with its 95% interval."""
        return accuracy(self.right(mode, group))

    def difference(self, first: str, second: str, group: str) -> Difference:
        """How much better the first mode is than the second in a group, question by question."""
        return difference(self.right(first, group), self.right(second, group))

    def to_json(self) -> list[dict[str, Any]]:
        """As JSON values, one object a mode; accuracies are fractions."""
        return [
            {
                "mode": mode,
                "selection": self.selections[mode],
                "accuracy": {group: _plain(self.accuracy(mode, group)) for group in self.groups},
                **{
                    f"minus_{other}": {
                        group: _plain(self.difference(mode, other, group)) for group in self.groups
                    }
                    for other in ("base", "tuned")
                    if other in self.modes and other != mode
                },
            }
            for mode in self.modes
        ]

    def _is_in(self, question: Question, group: str) -> bool:
        if group == "knowledge":
            return question.kind != self.skill
        return question.kind == (self.skill if group == "skill" else group)


def _plain(estimate: Estimate) -> dict[str, float | None]:
    plain: dict[str, float | None] = {
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
    }
    if isinstance(estimate, Difference):
        plain |= {
            "is_clear": estimate.is_clear,
            "gained": estimate.gained,
            "lost": estimate.lost,
            "p_value": estimate.p_value,
        }
    return plain
