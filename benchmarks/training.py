"""How quick is training, and how much memory does it take, against plain TRL?

Trains the same model on the same rows, with the same batches, twice: ``taia train`` and TRL's
``SFTTrainer`` as its own documentation has it (its defaults, but for what both are told). Each
run is a process of its own; tokens per second leave loading out. Peak memory is the GPU's
``max_memory_allocated`` or, on a processor, the process's ``ru_maxrss``.

    python benchmarks/training.py --technique lora --steps 10
    python benchmarks/training.py --technique qlora --device cuda --batch 16
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from timing import say

#: Targets: taia's tokens per second over TRL's, and its peak memory over TRL's.
TARGETS: Final = {"speed": 1.3, "memory": 0.6}
_LORA: Final[dict[str, Any]] = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, or (as a child) one of its contenders."""
    options = _options(arguments)
    if options.contender:
        print(json.dumps((_taia if options.contender == "taia" else _trl)(options)))
        return 0
    runs: dict[str, list[dict[str, float]]] = {"taia": [], "trl": []}
    with tempfile.TemporaryDirectory(prefix="taia-bench-") as scratch:
        rows = Path(scratch) / "rows.jsonl"
        _write_rows(rows, options)
        for turn in range(options.repeats):
            for name, found in runs.items():
                found.append(_child(name, options, rows, Path(scratch) / f"{name}-{turn}"))
                say(f"{turn + 1}/{options.repeats} {name:5} {found[-1]}")
    result = _result(options, runs)
    print(json.dumps(result, indent=2) if options.json else _table(result))
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, help="a model folder, if not the demonstration's")
    parser.add_argument("--technique", choices=["lora", "qlora", "full"], default="lora")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--batch", type=int, default=8, help="rows of a step")
    parser.add_argument("--length", type=int, default=256, help="tokens of a row")
    parser.add_argument("--steps", type=int, default=6, help="steps of a run")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each contender")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--contender", choices=["taia", "trl"], help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _write_rows(path: Path, options: argparse.Namespace) -> None:
    """Rows that fill every step with ``--length`` tokens each, as the model's tokenizer cuts."""
    text = " ".join(f"The number after {n} is {n + 1}." for n in range(options.length))
    count = options.batch * options.steps
    row = {"text": text}
    path.write_text("".join(json.dumps(row) + "\n" for _ in range(count)), "utf-8")


def _child(name: str, options: argparse.Namespace, rows: Path, output: Path) -> dict[str, float]:
    told = [f"--{key}={getattr(options, key)}" for key in ("technique", "device", "batch")]
    told += [f"--{key}={getattr(options, key)}" for key in ("length", "steps")]
    told += [f"--model={_model(options)}", f"--rows={rows}", f"--output={output}"]
    done = subprocess.run(
        [sys.executable, __file__, f"--contender={name}", *told],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _model(options: argparse.Namespace) -> Path:
    from taia.demo.model import cached_model

    return options.model or cached_model(say=say)


def _taia(options: argparse.Namespace) -> dict[str, float]:
    from taia.training.recipe import Recipe
    from taia.training.run import train

    recipe = Recipe(
        model_name_or_path=str(options.model),
        data=[str(options.rows)],
        technique=options.technique,
        output_dir=str(options.output),
        lora_dropout=_LORA["lora_dropout"],
        max_length=options.length,
        per_device_train_batch_size=options.batch,
        gradient_accumulation_steps=1,
        max_steps=options.steps,
    )
    times: list[float] = []

    def watch(work: str, done: int, total: int | None) -> None:
        if work.startswith("Training"):
            times.append(_now(options.device))

    trained = train(recipe, watch=watch)
    return _found(options, times, trained.record.steps[-1]["loss"])


def _trl(options: argparse.Namespace) -> dict[str, float]:
    import torch
    from datasets import load_dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    loading: dict[str, Any] = {"dtype": torch.float32 if options.device == "cpu" else "auto"}
    if options.technique == "qlora":
        from transformers import BitsAndBytesConfig

        loading["quantization_config"] = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    model = AutoModelForCausalLM.from_pretrained(options.model, **loading)
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: object, **__: object) -> None:
            times.append(_now(options.device))

    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(options.output),
            max_length=options.length,
            per_device_train_batch_size=options.batch,
            max_steps=options.steps,
            learning_rate=2e-4,
            lr_scheduler_type="cosine",
            warmup_steps=0.03,
            report_to="none",
            save_strategy="no",
            logging_steps=1,
            use_cpu=options.device == "cpu",
            bf16=options.device != "cpu",
        ),
        train_dataset=load_dataset("json", data_files=str(options.rows), split="train"),
        processing_class=AutoTokenizer.from_pretrained(options.model),
        peft_config=None
        if options.technique == "full"
        else LoraConfig(**_LORA, target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[Clock()],
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return _found(options, times, losses[-1])


def _now(device: str) -> float:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
    return time.perf_counter()


def _found(options: argparse.Namespace, times: list[float], loss: float) -> dict[str, float]:
    # Differences of the ends of steps: the first step, which warms up, is in none of them.
    ends = times[-options.steps :]
    steps = [later - earlier for earlier, later in pairwise(ends)]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if options.device == "cuda":
        import torch

        memory = torch.cuda.max_memory_allocated()
    return {
        "tokens_per_second": options.batch * options.length / statistics.median(steps),
        "peak_mb": memory / 1e6,
        "loss": loss,
    }


def _result(options: argparse.Namespace, runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    def median(name: str, key: str) -> float:
        return statistics.median(run[key] for run in runs[name])

    return {
        "technique": options.technique,
        "device": options.device,
        "batch": options.batch,
        "length": options.length,
        "runs": runs,
        "speed": median("taia", "tokens_per_second") / median("trl", "tokens_per_second"),
        "memory": median("taia", "peak_mb") / median("trl", "peak_mb"),
        "median": {
            name: {key: median(name, key) for key in ("tokens_per_second", "peak_mb", "loss")}
            for name in runs
        },
    }


def _table(result: dict[str, Any]) -> str:
    lines = ["| | tokens/s | peak MB | last loss |", "| --- | --- | --- | --- |"]
    for name, found in result["median"].items():
        lines.append(
            f"| {name} | {found['tokens_per_second']:.0f} | {found['peak_mb']:.0f} "
            f"| {found['loss']:.3f} |"
        )
    lines.append(
        f"\n{result['speed']:.2f} × TRL's tokens/s (target {TARGETS['speed']}), "
        f"{result['memory']:.2f} × its memory (target {TARGETS['memory']})"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
