"""One item of a task: what a model is asked, and what the right answer is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

#: How an answer is compared: as mathematics, as a number, as the choice of an option, as text; or
#: by rules, which are JSON.
AnswerKind: TypeAlias = Literal["math", "number", "option", "text", "rules"]


@dataclass(frozen=True, slots=True)
class Item:
    r"""An item of a task.

    Attributes:
        id: Unique within its task.
        task: The task's name.
        prompt: What the user says, its instruction included.
        kind: How an answer is compared with ``gold``.
        gold: The right answer as the data set writes it: ``\frac{1}{2}``, ``145.0``, ``B``,
            ``(B)``, ``valid``.
        options: The texts of the options in the order of their letters; none if there are none.
        group: The part of the task it belongs to (BBH's subtask, MMLU's subject), or nothing.
        solution: MATH's worked solution, which the authors' matching looks into; else nothing.
    """

    id: str
    task: str
    prompt: str
    kind: AnswerKind
    gold: str
    options: tuple[str, ...] = ()
    group: str = ""
    solution: str = ""
