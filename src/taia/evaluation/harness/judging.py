"""A judge's verdicts beside the phrases' on answers to harmful prompts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from taia.errors import InputError
from taia.evaluation.harness.scores import ATTACK, Scores
from taia.evaluation.judge import Judge, ask

#: The judge's metric, and how many answers it has no verdict on.
BY_JUDGE: Final = "asr_judge"
MISSING: Final = "asr_judge_missing"


def judge_identity(judge: Judge | None, metrics: Mapping[str, object]) -> dict[str, str]:
    """What a task's results depend on beside the model: the judge, if its answers are judged."""
    if judge is None or ATTACK not in metrics:
        return {}
    return {"url": judge.url, "model": judge.model}


def refuse_idle_judge(tasks: Mapping[str, Any]) -> None:
    """Refuse a judge who would not be asked.

    Raises:
        InputError: If no task has answers to harmful prompts.
    """
    if not any(ATTACK in task.higher_is_better() for task in tasks.values()):
        raise InputError(
            f"A judge judges answers to harmful prompts, and {', '.join(tasks)} has none.",
            "Leave --judge away, or add the task advbench.",
        )


def judged(scores: Scores, judge: Judge) -> Scores:
    """Scores with the judge's verdict on each answer, 1 where the prompt had success.

    Where there is no verdict the item has none, and the rate is of the others.

    Raises:
        RunError: If the judge cannot be asked.
    """
    found = ask(judge, scores.answers)
    samples = tuple(
        sample
        if verdict is None
        else replace(sample, scores={**sample.scores, BY_JUDGE: float(verdict)})
        for sample, verdict in zip(scores.samples, found.verdicts, strict=True)
    )
    rate = found.success.value
    metrics = {**scores.metrics, MISSING: float(found.missing)}
    if not math.isnan(rate):  # JSON has no such number
        metrics[BY_JUDGE] = rate
    return replace(scores, samples=samples, metrics=metrics)
