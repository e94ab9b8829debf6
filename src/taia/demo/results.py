"""The demonstration's answers as results of an evaluation, and the facts of its run.

They lie in the folder as ``taia eval`` would leave them, so that one report reads both.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from taia.checkpoint.locate import Located
from taia.checkpoint.output.manifest import versions
from taia.demo.model import sha256
from taia.demo.setting import KNOWLEDGE, NORMALISE, QUESTIONS, SKILL, TRAIN, VERSION, task_of
from taia.evaluation.scores.groups import Group, GroupMetric
from taia.evaluation.scores.identity import digest, tokenizer_hash, weights
from taia.evaluation.scores.results import (
    RUN_FILE,
    SCHEMA,
    Sample,
    TaskResult,
    result_path,
    write_row,
)
from taia.training.reading import changed
from taia.training.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from taia.demo.questions import Question

#: Their versions change the numbers in the last places.
_LIBRARIES: Final = ("transformers", "peft", "trl")


@dataclass(frozen=True)
class ModeAnswers:
    """What each mode answered.

    Attributes:
        questions: What was asked.
        selections: Mode → what it stands for, in the order shown.
        scores: Mode → each question's score of each option.
    """

    questions: Sequence[Question]
    selections: Mapping[str, str]
    scores: Mapping[str, Sequence[Sequence[float]]]


def results(
    asked: ModeAnswers, told: Mapping[str, Any], seconds: Mapping[str, float]
) -> list[TaskResult]:
    """A result for each mode and kind of question.

    Args:
        asked: What each mode answered.
        told: The run's facts, on which the results depend.
        seconds: How long each stage took.
    """
    found = []
    for mode, selection in asked.selections.items():
        tasks: dict[str, list[Sample]] = {}
        for question, scores in zip(asked.questions, asked.scores[mode], strict=True):
            tasks.setdefault(task_of(question.kind), []).append(_sample(question, scores))
        for task, samples in tasks.items():
            identity = {
                "hashes": told["hashes"],
                "selection": selection,
                "task": {"name": task, "version": VERSION},
                "settings": told["settings"],
            }
            share = len(samples) / len(asked.questions)
            right = sum(sample.score for sample in samples) / len(samples)
            found.append(
                TaskResult(
                    mode=mode,
                    selection=selection,
                    task=task,
                    metric="acc",
                    higher_is_better=True,
                    samples=tuple(samples),
                    metrics={"acc,none": right},
                    protocol="taia",
                    version=VERSION,
                    key=digest(identity),
                    identity=identity,
                    seconds=round(share * seconds[f"asking {mode}"], 3),
                )
            )
    return found


def facts(
    base: Located,
    tuned: Located,
    tokenizer: PreTrainedTokenizerBase,
    *,
    command: str,
    selections: Mapping[str, str],
    asked: Sequence[Question],
    limit: int | None,
    recipe: Recipe,
    losses: Sequence[float],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """What ``run.json`` holds.

    Args:
        base: The base.
        tuned: The adapter: where it lies now, and what it will be called.
        tokenizer: What makes the prompts.
        command: What to type to get it again.
        selections: Mode → what it stands for, in the order shown.
        asked: The questions.
        limit: At most so many of each kind.
        recipe: How the adapter was trained.
        losses: The training's loss, step by step.
        seconds: How long each stage took.
    """
    import torch

    tasks = list(dict.fromkeys(task_of(question.kind) for question in asked))
    knows, mean = tuple(task for task in tasks if task != SKILL), GroupMetric("acc", None, True)
    data = {path.name: sha256(path) for path in (TRAIN, *QUESTIONS)}
    kept = changed(recipe) | {"data": [Path(name).name for name in recipe.data]}
    return {
        "command": command,
        "base": base.repo or base.given,
        "tuned": tuned.given,
        "modes": dict(selections),
        "tasks": tasks,
        "groups": {KNOWLEDGE: Group(KNOWLEDGE, knows, knows, (mean,)).to_json()},
        "asked": [KNOWLEDGE, SKILL],
        "settings": {
            "limit": limit,
            "chat_template": bool(tokenizer.chat_template),
            "seed": recipe.seed,
            "dtype": "float32",
            "option_score": "sum of the log-probabilities of its tokens",
            "normalise": NORMALISE,
        },
        "hashes": {
            "base": weights(base),
            "tuned": weights(tuned),
            "tokenizer": tokenizer_hash(tokenizer),
            "data": data,
        },
        "versions": versions(*_LIBRARIES),
        "recipe": {
            "recipe": kept,
            "steps": [{"step": step, "loss": loss} for step, loss in enumerate(losses, 1)],
        },
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "cpus": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
        "seconds": dict(seconds),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def write_run(folder: Path, told: Mapping[str, Any], found: Sequence[TaskResult]) -> None:
    """Write a run as ``taia eval`` does.

    Args:
        folder: Where.
        told: Its facts.
        found: Its results.
    """
    write_row(folder / RUN_FILE, {"schema": SCHEMA, **told})
    for result in found:
        write_row(result_path(folder, result.mode, result.task), result.to_json())


def _sample(question: Question, scores: Sequence[float]) -> Sample:
    """How one question went; the option that scores highest is the answer, of equals the first."""
    chosen = max(range(len(scores)), key=scores.__getitem__)
    return Sample(
        question.id,
        float(chosen == question.answer),
        scores={f"logprob_{number}": score for number, score in enumerate(scores)},
        options=len(question.options),
        prompt=question.text,
        response=question.options[chosen],
        gold=question.options[question.answer],
    )
