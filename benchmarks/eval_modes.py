"""What does it gain to evaluate four modes in one run of ``taia eval``?

The same tasks over the same weights, two ways, in one process:

- ``taia``: one run of base, tuned, taia and taif over a base and an adapter;
- ``lm-eval``: four runs of lm-evaluation-harness with its own model for transformers, which loads
  a whole checkpoint each time: the base, and what ``taia compose --merge`` writes of the others.

Both have as many items of each mode under way at once; one run has those of all modes in one batch.
Loading is part of the time, as it is of the work; composing is not. The tasks are made on the spot
from the questions that ship with the demonstration: their options rated, and answers generated.
The adapter is random, as large as a trained one. Every score must be the same for every item, or
the times mean nothing.

    python benchmarks/eval_modes.py --limit 10 --generated 4
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch

from taia.checkpoint.compose import compose
from taia.demo.model import cached_model
from taia.demo.questions import Question
from taia.demo.setting import questions
from taia.evaluation.harness.drive import quiet_harness
from taia.evaluation.run import evaluate
from taia.evaluation.scores.results import read_results
from timing import say

MODES: Final = ("base", "tuned", "taia", "taif")
#: How much of lm-evaluation-harness's time the run may take, at most.
TARGET: Final = 0.6

#: (mode, item) → what the item scored, by metric; of generations, the text too.
Scores: TypeAlias = dict[tuple[str, str], Any]

_TASK: Final = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
doc_to_text: "{{{{question}}}}"
"""
_RATED: Final = """output_type: multiple_choice
doc_to_choice: options
doc_to_target: answer
metric_list: [{metric: acc}, {metric: acc_norm}]
"""
_GENERATED: Final = """output_type: generate_until
doc_to_target: "{{options[answer]}}"
generation_kwargs: {until: [], max_gen_toks: 32}
metric_list: [{metric: exact_match}]
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 1 when scores differ or the target is missed."""
    options = _options(arguments)
    model = options.model or cached_model(say=say)
    with tempfile.TemporaryDirectory(prefix="taia-") as scratch, quiet_harness():
        folder = Path(scratch)
        say("making an adapter, three checkpoints and two tasks")
        places = make_models(model, folder)
        tasks = folder / "tasks"
        tasks.mkdir()
        asked = questions(options.limit)
        write_task(tasks, "likelihood", _RATED, asked)
        write_task(tasks, "generation", _GENERATED, questions(options.generated))
        work = {
            name: _compared(name, model, places, tasks, folder, options)
            for name in ("likelihood", "generation")
        }
    total = {way: sum(one["median"][way] for one in work.values()) for way in ("taia", "lm-eval")}
    result = {
        "model": Path(model).name,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "batch_size": options.batch_size,
        "target": TARGET,
        "work": work,
        "seconds": total,
        "ratio": total["taia"] / total["lm-eval"],
    }
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        _print(result)
    same = all(one["differs"] == 0 for one in work.values())
    return 0 if same and result["ratio"] <= TARGET else 1


def make_models(model: Path, folder: Path) -> dict[str, Path]:
    """A random adapter, and each mode as a whole checkpoint.

    Returns:
        Mode → its checkpoint; ``adapter`` → the adapter.
    """
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base: Any = AutoModelForCausalLM.from_pretrained(
        model, dtype=torch.float32, local_files_only=True
    )
    torch.manual_seed(0)
    config = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=16)
    tuned = get_peft_model(base, config)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.005)
    tuned.save_pretrained(str(folder / "adapter"), save_embedding_layers=False)
    places = {"base": Path(model), "adapter": folder / "adapter"}
    for mode in MODES[1:]:
        keep = "all" if mode == "tuned" else mode
        compose(model, folder / "adapter", folder / mode, keep, merge=True)
        places[mode] = folder / mode
    return places


def write_task(folder: Path, name: str, how: str, asked: Sequence[Question]) -> None:
    """A task file and its data."""
    file = folder / f"{name}.json"
    rows = [
        {"question": q.text, "options": list(q.options), "answer": q.answer, "id": q.id}
        for q in asked
    ]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (folder / f"{name}.yaml").write_text(_TASK.format(name=name, file=file) + how, "utf-8")


def ours(name: str, model: Path, adapter: Path, tasks: Path, output: Path, rows: int) -> Scores:
    """All modes in one run."""
    evaluate(
        model,
        adapter,
        tasks=[name],
        output=output,
        include_path=[tasks],
        device="cpu",
        dtype="float32",
        batch_size=rows,
        log_samples=True,
    )
    return {
        (result.mode, sample.id): (sample.score, sample.response)
        for result in read_results(output)
        for sample in result.samples
    }


def theirs(name: str, places: dict[str, Path], tasks: Path, rows: int) -> Scores:
    """Each mode in a run of its own."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    scores: Scores = {}
    for mode in MODES:
        manager = TaskManager(include_path=str(tasks), include_defaults=False)
        lm = HFLM(str(places[mode]), device="cpu", dtype="float32", batch_size=rows)
        found = simple_evaluate(
            lm,
            tasks=[name],
            task_manager=manager,
            apply_chat_template=True,
            fewshot_as_multiturn=True,
            bootstrap_iters=0,
        )
        for row in found["samples"][name]:
            score, said = row.get("acc", row.get("exact_match")), row["resps"][0][0]
            if "acc" in row:
                rated = [float(resp[0][0]) for resp in row["resps"]]
                said = row["doc"]["options"][rated.index(max(rated))]
            scores[mode, row["doc"]["id"]] = (float(score), _said(said, row))
    return scores


def _said(said: str, row: dict[str, Any]) -> str:
    """What was said, as our results keep it: an option with what parts it from the prompt."""
    return next((a[1] for a in row["arguments"] if a[1] == f" {said}"), said)


def _compared(
    name: str,
    model: Path,
    places: dict[str, Path],
    tasks: Path,
    folder: Path,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Both ways in turns."""
    seconds: dict[str, list[float]] = {"taia": [], "lm-eval": []}
    scores: dict[str, Scores] = {}
    for turn in range(options.repeats):
        output = folder / f"run-{name}-{turn}"
        ways: dict[str, Callable[[], Scores]] = {
            "taia": lambda output=output: ours(  # type: ignore[misc]
                name, model, places["adapter"], tasks, output, len(MODES) * options.batch_size
            ),
            "lm-eval": lambda: theirs(name, places, tasks, options.batch_size),
        }
        for way, run in ways.items():
            start = time.perf_counter()
            scores[way] = run()
            seconds[way].append(time.perf_counter() - start)
            say(f"{name} {turn + 1}/{options.repeats} {way:8} {seconds[way][-1]:8.1f} s")
    median = {way: statistics.median(taken) for way, taken in seconds.items()}
    one, other = scores["taia"], scores["lm-eval"]
    return {
        "items": len(one) // len(MODES),
        "median": median,
        "ratio": median["taia"] / median["lm-eval"],
        "differs": sum(one[key] != other.get(key) for key in one | other),
        "modes_differ": len({mode_scores(one, mode) for mode in MODES}),
        "seconds": seconds,
    }


def mode_scores(scores: Scores, mode: str) -> tuple[Any, ...]:
    """A mode's items, to tell whether modes are different at all."""
    return tuple(value for (of, _), value in scores.items() if of == mode)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, help="a model folder, if not the demonstration's")
    parser.add_argument("--limit", type=int, default=10, help="rated questions of each kind")
    parser.add_argument("--generated", type=int, default=4, help="answered ones of each kind")
    parser.add_argument(
        "--batch-size", type=int, default=16, help="items at once of each mode, both ways"
    )
    parser.add_argument("--repeats", type=int, default=1, help="turns of each way")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser.parse_args(arguments)


def _print(result: dict[str, Any]) -> None:
    print(
        f"{result['model']}: four modes, {result['threads']} threads of {result['cores']} cores, "
        f"{result['batch_size']} items of each mode at once"
    )
    print(f"{'':12}{'items':>7}{'taia s':>10}{'lm-eval s':>11}{'ratio':>8}{'differ':>8}")
    for name, work in result["work"].items():
        print(
            f"{name:12}{work['items']:7}{work['median']['taia']:10.1f}"
            f"{work['median']['lm-eval']:11.1f}{work['ratio']:8.2f}{work['differs']:8}"
        )
    total = result["seconds"]
    print(f"{'both':19}{total['taia']:10.1f}{total['lm-eval']:11.1f}{result['ratio']:8.2f}")
    print(f"differ: of {len(MODES)} × items, those with another score or answer; target: none,")
    print(f"and a ratio of at most {result['target']} of both")


if __name__ == "__main__":
    raise SystemExit(main())
