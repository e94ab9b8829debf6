"""Runs of `taia eval` made by hand: how often each mode is right, and no model."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from taia.evaluation.scores.results import RUN_FILE, Sample, TaskResult, result_path
from taia.selection import MODES

TASKS = ("math", "bbh", "csqa", "logiqa", "svamp", "mmedbench", "mmlu")

#: Mode → right answers in percent, task by task: tuning costs, and taia mends most of it.
RATES: dict[str, tuple[float, ...]] = {
    "base": (4, 17, 58, 32, 25, 34, 44),
    "tuned": (8, 29, 52, 35, 22, 28, 31),
    "taia": (11, 30, 64, 33, 30, 35, 44),
    "taif": (5, 22, 54, 30, 24, 30, 36),
}
#: Mode → harmful prompts answered and harmless ones refused, in percent.
UNSAFE = {"base": (2, 20), "tuned": (60, 3), "taia": (12, 10), "taif": (45, 7)}


def result(
    task: str,
    mode: str,
    scores: Sequence[float] | Mapping[str, float],
    metric: str = "acc",
    **more: Any,
) -> TaskResult:
    """One mode's result of one task."""
    by_id = scores if isinstance(scores, Mapping) else {f"{n}": s for n, s in enumerate(scores)}
    return TaskResult(
        **{
            "mode": mode,
            "selection": MODES.get(mode, mode),
            "task": task,
            "metric": metric,
            "higher_is_better": metric not in ("asr", "over_refusal", "word_perplexity"),
            "samples": tuple(Sample(name, score) for name, score in by_id.items()),
            "metrics": {metric: sum(by_id.values()) / len(by_id)},
            "protocol": "taia",
            "version": "1",
            "key": "0" * 64,
            "identity": {},
            "seconds": 1.0,
            **more,
        }
    )


def results(
    rates: Mapping[str, Sequence[float]] = RATES,
    unsafe: Mapping[str, Sequence[float]] = UNSAFE,
    *,
    items: int = 300,
    seed: int = 0,
) -> list[TaskResult]:
    """Every mode's results; an item that is hard for one mode is hard for the others."""
    draw = random.Random(seed)
    made = []
    kinds = [(task, "acc") for task in TASKS]
    if unsafe:
        kinds += [("advbench", "asr"), ("lookalikes", "over_refusal")]
    for slot, (task, metric) in enumerate(kinds):
        hard = [draw.random() for _ in range(items)]
        own = {mode: random.Random(f"{mode} {seed} {task}") for mode in rates}
        for mode, of_tasks in rates.items():
            rate = (*of_tasks, *unsafe.get(mode, ()))[slot] / 100
            mixed = [own[mode].random() if own[mode].random() < 0.3 else level for level in hard]
            made.append(result(task, mode, [float(level < rate) for level in mixed], metric))
    return made


def group(
    parts: Sequence[str],
    tasks: Sequence[str] | None = None,
    metric: str = "acc",
    *,
    by_size: bool | None = True,
) -> dict[str, Any]:
    """A group that averages a metric, tasks weighing by size or all the same; or only a list."""
    own = {"metric": metric, "filters": None, "weight_by_size": by_size}
    return {
        "parts": list(parts),
        "tasks": list(tasks or parts),
        "metrics": [] if by_size is None else [own],
    }


def facts(
    made: Sequence[TaskResult], groups: Mapping[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """What ``run.json`` says of them; a group may be a list of what is in it, as one task."""

    def leaves(name: str) -> list[str]:
        inner = (groups or {}).get(name)
        return [leaf for part in inner for leaf in leaves(part)] if inner else [name]

    whole = {
        name: row if isinstance(row, dict) else group(row, leaves(name))
        for name, row in (groups or {}).items()
    }
    return {
        "schema": 1,
        "command": "taia eval BASE TUNED --tasks taia --output RUN",
        "base": "org/base",
        "tuned": "org/tuned",
        "modes": {r.mode: r.selection for r in made},
        "tasks": list(dict.fromkeys(r.task for r in made)),
        "groups": whole,
        "settings": {"limit": 300, "protocol": "taia", "seed": 0},
        "hashes": {"base": {"model.safetensors": "ab" * 32}},
        "versions": {"taia": "0.1.0", "torch": "2.13.0"},
        "recipe": {
            "recipe": {"technique": "lora", "lora_r": 16, "data": ["train.jsonl"], "seed": 0},
            "data": {"rows": 480, "tokens": 20_000},
            "steps": [{"step": n, "loss": 4 / n} for n in range(1, 25)],
        },
        "created": "2026-01-01T00:00:00+00:00",
        **more,
    }


def write_run(folder: Path, made: Sequence[TaskResult] | None = None, **more: Any) -> Path:
    """A run folder, as ``taia eval`` writes it."""
    made = results() if made is None else made
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RUN_FILE).write_text(json.dumps(facts(made, **more)), encoding="utf-8")
    for one in made:
        path = result_path(folder, one.mode, one.task)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(one.to_json()), encoding="utf-8")
    return folder
