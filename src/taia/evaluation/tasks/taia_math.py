"""MATH (Hendrycks et al. 2021, arXiv 2103.03874): problems with worked solutions."""

from __future__ import annotations

from typing import Final

from taia.errors import DataError
from taia.evaluation.tasks.answers import authors
from taia.evaluation.tasks.answers.statements import boxed
from taia.evaluation.tasks.rows import MEND, DataRow, HubData, read_jsonl
from taia.evaluation.tasks.task import FORMAT, Item, Task, text


def item(task: str, row: DataRow) -> Item:
    r"""``problem``, ``solution`` with its answer in the last ``\boxed{}``, ``type``."""
    solution = text(row, "solution")
    boxes = [box for box in boxed(solution) if box]
    if not boxes:
        raise DataError(f"{row.where}: the solution has no \\boxed answer.", MEND)
    problem, group = text(row, "problem"), text(row, "type")
    return Item(row.id, task, problem, "math", boxes[-1], (), group, solution)


TASKS: Final = (
    Task(
        "taia_math",
        "math_test.jsonl",
        read_jsonl,
        item,
        FORMAT,
        HubData(
            "EleutherAI/hendrycks_math",
            configs=("algebra", "counting_and_probability", "geometry", "intermediate_algebra",
                     "number_theory", "prealgebra", "precalculus"),
        ),
        is_finished=True,
        by_authors=authors.mathematics,
        needs=("math_verify",),
    ),
)  # fmt: skip
