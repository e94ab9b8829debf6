"""What does it gain that no answer waits for the longest of its batch?

Writes answers of different lengths to the demonstration's questions, greedily, in turns, in one
process:

- ``taia 8`` and ``taia 32``: the engine with so many rows; an answer that ends makes room for the
  next one;
- ``transformers 8`` and ``transformers 32``: ``generate`` on batches of so many prompts, padded on
  the left, until the last answer of the batch has ended.

Every answer has a limit of its own, drawn between 8 tokens and ``--longest``. The answers must be
the same tokens, or the times mean nothing. A round that is not counted comes first.

    python benchmarks/generate.py --prompts 32 --repeats 3
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch

from taia.demo.model import cached_model
from taia.demo.setting import questions
from taia.runtime.engine import Engine
from taia.runtime.generation import Generation
from timing import say, turns

ROWS: Final = (8, 32)

Answers: TypeAlias = list[list[int]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 1 when the answers differ."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from taia.runtime.switchable import SwitchableModel

    options = _options(arguments)
    folder = options.model or cached_model(say=say)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True
    )
    switchable = SwitchableModel.wrap(model)
    requests = asked(tokenizer, options.prompts, options.longest)
    ways: dict[str, Callable[[], Answers]] = {}
    for rows in ROWS:
        engine = Engine(switchable, tokenizer, max_rows=rows)
        ways[f"taia {rows}"] = partial(ours, engine, requests)
        ways[f"transformers {rows}"] = partial(theirs, model, requests, rows)
    answers = {name: way() for name, way in ways.items()}
    seconds = turns(ways, options.repeats)
    result = _result(Path(folder), requests, seconds, answers)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        _print(result)
    return 0 if result["agrees"] else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, help="a model folder, if not the demonstration's")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--longest", type=int, default=96, help="tokens of the longest answer")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each way that count")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser.parse_args(arguments)


def asked(tokenizer: Any, count: int, longest: int) -> list[Generation]:  # noqa: ANN401 - any tokenizer
    """Questions, and how long each answer may get."""
    rng = random.Random(0)
    found = questions()
    return [
        Generation(
            "base",
            tuple(tokenizer(f"Question: {question.text}\nAnswer:").input_ids),
            max_new_tokens=rng.randint(8, longest),
        )
        for question in rng.sample(found, count)
    ]


def ours(engine: Engine, requests: Sequence[Generation]) -> Answers:
    """The engine's answers."""
    return [[token.id for token in answer.tokens] for answer in engine.generate(requests)]


def theirs(model: Any, requests: Sequence[Generation], rows: int) -> Answers:  # noqa: ANN401 - any causal model
    """The answers of ``generate``, a batch at a time."""
    answers = []
    for first in range(0, len(requests), rows):
        batch = requests[first : first + rows]
        width = max(len(request.prompt) for request in batch)
        padding = [width - len(request.prompt) for request in batch]
        rows_of_ids = [(0,) * p + r.prompt for p, r in zip(padding, batch, strict=True)]
        out = model.generate(
            torch.tensor(rows_of_ids),
            attention_mask=(torch.arange(width) >= torch.tensor(padding)[:, None]).long(),
            max_new_tokens=max(request.max_new_tokens for request in batch),
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )[:, width:].tolist()
        answers += [row[: request.max_new_tokens] for row, request in zip(out, batch, strict=True)]
    return answers


def _result(
    folder: Path,
    requests: Sequence[Generation],
    seconds: dict[str, list[float]],
    answers: dict[str, Answers],
) -> dict[str, Any]:
    tokens = sum(request.max_new_tokens for request in requests)
    reference = answers[f"transformers {ROWS[0]}"]
    ways = {}
    for name, taken in seconds.items():
        median = statistics.median(taken)
        other = statistics.median(seconds[f"transformers {name.split()[1]}"])
        equal = sum(a == b for a, b in zip(answers[name], reference, strict=True))
        ways[name] = {
            "median": median,
            "tokens_per_second": tokens / median,
            "speedup": other / median,
            "equal": equal,
            "seconds": taken,
        }
    return {
        "model": folder.name,
        "prompts": len(requests),
        "tokens": tokens,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "ways": ways,
        "agrees": all(way["equal"] == len(requests) for way in ways.values()),
    }


def _print(result: dict[str, Any]) -> None:
    print(
        f"{result['model']}: {result['prompts']} answers, {result['tokens']} tokens, "
        f"{result['threads']} threads\n"
    )
    print("| | seconds | tokens/s | against transformers | same answers |")
    print("| --- | --- | --- | --- | --- |")
    for name, way in result["ways"].items():
        print(
            f"| {name} | {way['median']:.2f} | {way['tokens_per_second']:.0f} "
            f"| {way['speedup']:.2f} | {way['equal']} of {result['prompts']} |"
        )


if __name__ == "__main__":
    raise SystemExit(main())
