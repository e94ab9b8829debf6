"""What does it gain to evaluate four modes in one run of ``taia eval``?

The same tasks over the same weights, two ways, in turns, in one process:

- ``taia``: one run of base, tuned, taia and taif over a base and an adapter;
- ``lm-eval``: four runs of lm-evaluation-harness with its own model for transformers, which loads
  a whole checkpoint each time: the base, and what ``taia compose --merge`` writes of the others.

Both have as many items of each mode under way at once; one run has those of all modes in one batch.
Loading is part of the time, as it is of the work; composing is not, and neither is a run of one
item before, which imports what both import. Three kinds of work:

- ``texts``: the options' texts are rated, after a question without them;
- ``letters``: their letters are, after a question that lists them: one token each, for which
  lm-evaluation-harness too runs a question once;
- ``answers``: answers are generated.

The questions are those that ship with the demonstration, or with ``--mmlu`` and ``--svamp`` those
of a file of MMLU (``question``, ``choices``, ``answer`` a line) and one of SVAMP (``Body``,
``Question``, ``Answer``). The adapter is random, as large as a trained one. In float32 every score
must be the same for every item, or the times mean nothing.

    python benchmarks/eval_modes.py --limit 20 --answered 10 --repeats 3
    python benchmarks/eval_modes.py --model FOLDER --dtype bfloat16 --shots 5 --longest 64
      --mmlu mmlu.jsonl --limit 200 --svamp svamp.jsonl --answered 40
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch

from asked import KINDS, Row, write_task
from taia.checkpoint.compose import compose
from taia.demo.model import cached_model
from taia.evaluation.harness.drive import quiet_harness
from taia.evaluation.run import evaluate
from taia.evaluation.scores.results import read_results
from taia.evaluation.settings import Settings
from timing import say

MODES: Final = ("base", "tuned", "taia", "taif")
#: How much of lm-evaluation-harness's time the run may take, at most, by kind of work.
TARGETS: Final = {"texts": 0.25, "letters": 0.25, "answers": 0.4}

#: (mode, item) → what the item scored, by metric; of generations, the text too.
Scores: TypeAlias = dict[tuple[str, str], Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 1 when scores differ or the target is missed."""
    options = _options(arguments)
    model = options.model or cached_model(say=say)
    with tempfile.TemporaryDirectory(prefix="taia-") as scratch, quiet_harness():
        folder = Path(scratch)
        say("making an adapter, three checkpoints and the tasks")
        places = make_models(model, folder)
        tasks = folder / "tasks"
        tasks.mkdir()
        for name in options.work:
            file, limit = (
                (options.svamp, options.answered)
                if name == "answers"
                else (options.mmlu, options.limit)
            )
            write_task(tasks, name, file, limit, options.shots, options.longest)
        warm = folder / "warm"
        ours(options.work[0], places, tasks, warm, options, limit=1)
        theirs(options.work[0], places, tasks, options, limit=1)
        work = {name: _compared(name, places, tasks, folder, options) for name in options.work}
    result = {
        "model": Path(model).name,
        "dtype": options.dtype,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "batch_size": options.batch_size,
        "shots": options.shots,
        "work": work,
    }
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        _print(result)
    same = options.dtype != "float32" or all(one["differs"] == 0 for one in work.values())
    return 0 if same and all(one["ratio"] <= one["target"] for one in work.values()) else 1


def make_models(model: Path, folder: Path) -> dict[str, Path]:
    """A random adapter, and each mode as a whole checkpoint.

    Returns:
        Mode → its checkpoint; ``adapter`` → the adapter.
    """
    places = {"base": Path(model), "adapter": make_adapter(model, folder)}
    for mode in MODES[1:]:
        keep = "all" if mode == "tuned" else mode
        compose(model, places["adapter"], folder / mode, keep, merge=True)
        places[mode] = folder / mode
    return places


def make_adapter(model: Path, folder: Path) -> Path:
    """A random LoRA of all linears of a model, as large as a trained one; its folder."""
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
    return folder / "adapter"


def ours(
    name: str,
    places: dict[str, Path],
    tasks: Path,
    output: Path,
    options: argparse.Namespace,
    limit: int | None = None,
) -> Scores:
    """All modes in one run."""
    evaluate(
        places["base"],
        places["adapter"],
        tasks=[name],
        output=output,
        include_path=[tasks],
        device="cpu",
        dtype=options.dtype,
        batch_size=len(MODES) * options.batch_size,
        settings=Settings(limit=limit),
        log_samples=True,
    )
    return {
        (result.mode, sample.id): (sample.score, sample.response)
        for result in read_results(output)
        for sample in result.samples
    }


def theirs(
    name: str,
    places: dict[str, Path],
    tasks: Path,
    options: argparse.Namespace,
    limit: int | None = None,
) -> Scores:
    """Each mode in a run of its own."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    scores: Scores = {}
    for mode in MODES:
        manager = TaskManager(include_path=str(tasks), include_defaults=False)
        lm = HFLM(
            str(places[mode]), device="cpu", dtype=options.dtype, batch_size=options.batch_size
        )
        found = simple_evaluate(
            lm,
            tasks=[name],
            task_manager=manager,
            apply_chat_template=True,
            fewshot_as_multiturn=True,
            bootstrap_iters=0,
            limit=limit,
        )
        for row in found["samples"][name]:
            score, said = row.get("acc", row.get("exact_match")), row["resps"][0][0]
            if "acc" in row:
                rated = [float(resp[0][0]) for resp in row["resps"]]
                said = row["doc"]["options"][rated.index(max(rated))]
            scores[mode, row["doc"]["id"]] = (float(score), _said(said, row))
    return scores


def _said(said: str, row: Row) -> str:
    """What was said, as our results keep it: an option with what parts it from the prompt."""
    return next((a[1] for a in row["arguments"] if a[1] == f" {said}"), said)


def _compared(
    name: str, places: dict[str, Path], tasks: Path, folder: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """Both ways in turns."""
    seconds: dict[str, list[float]] = {"taia": [], "lm-eval": []}
    scores: dict[str, Scores] = {}
    for turn in range(options.repeats):
        output = folder / f"run-{name}-{turn}"
        ways: dict[str, Callable[[], Scores]] = {
            "taia": partial(ours, name, places, tasks, output, options),
            "lm-eval": partial(theirs, name, places, tasks, options),
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
        "target": TARGETS[name],
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
    parser.add_argument("--work", nargs="+", choices=KINDS, default=[*KINDS], help="which kinds")
    parser.add_argument("--mmlu", type=Path, help="questions to rate, if not the demonstration's")
    parser.add_argument("--svamp", type=Path, help="questions to answer, likewise")
    parser.add_argument("--limit", type=int, default=10, help="rated questions, of each kind")
    parser.add_argument("--answered", type=int, default=4, help="answered ones, likewise")
    parser.add_argument("--shots", type=int, default=0, help="examples before each question")
    parser.add_argument("--longest", type=int, default=32, help="tokens of an answer")
    parser.add_argument("--dtype", default="float32", help="what both compute in")
    parser.add_argument(
        "--batch-size", type=int, default=16, help="items at once of each mode, both ways"
    )
    parser.add_argument("--repeats", type=int, default=1, help="turns of each way")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser.parse_args(arguments)


def _print(result: dict[str, Any]) -> None:
    print(
        f"{result['model']}, {result['dtype']}, {result['shots']} examples: four modes, "
        f"{result['threads']} threads of {result['cores']} cores, "
        f"{result['batch_size']} items of each mode at once"
    )
    heads = ("items", "taia s", "lm-eval s", "ratio", "target", "differ")
    print(f"{'':10}" + "".join(f"{head:>10}" for head in heads))
    for name, work in result["work"].items():
        print(
            f"{name:10}{work['items']:10}{work['median']['taia']:10.1f}"
            f"{work['median']['lm-eval']:10.1f}{work['ratio']:10.2f}{work['target']:10.2f}"
            f"{work['differs']:10}"
        )
    print(f"differ: of {len(MODES)} × items, those with another score or answer")


if __name__ == "__main__":
    raise SystemExit(main())
