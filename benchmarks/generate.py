"""What does it gain that no answer waits for the longest of its batch?

Writes answers of different lengths to the demonstration's questions, greedily, in turns, in one
process:

- ``taia N``: the engine with so many rows; an answer that ends makes room for the next one, and
  rows of all modes stand beside each other;
- ``generate N``: transformers' ``generate`` on batches of so many prompts, padded on the left,
  until the last answer of the batch has ended; one mode after the other;
- ``continuous``: transformers' continuous batching with its paged cache, one mode after the other
  (``--continuous``).

Every answer has a limit of its own, drawn between 8 tokens and ``--longest``. The answers must be
the same tokens (in float32), or the times mean nothing. A round that is not counted comes first.

    python benchmarks/generate.py --prompts 32 --repeats 3
    python benchmarks/generate.py --device cuda --dtype bfloat16 --rows 64 --modes --continuous
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import torch

from taia.demo.model import cached_model
from taia.demo.setting import questions
from taia.runtime.engine import Engine
from taia.runtime.generation import Generation
from timing import say, turns

if TYPE_CHECKING:
    from taia.runtime.switchable import SwitchableModel

#: The modes of ``--modes``: an adapter of random values makes them differ.
MODES: Final = ("base", "tuned", "taia", "taif")

Answers: TypeAlias = list[list[int]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 1 when answers in float32 differ."""
    from transformers import AutoTokenizer

    from taia.runtime.switchable import SwitchableModel

    options = _options(arguments)
    folder = options.model or cached_model(say=say)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    with tempfile.TemporaryDirectory() as scratch:
        adapter = _adapter(folder, Path(scratch)) if options.modes else None
        model = SwitchableModel.load(
            folder, adapter, dtype=getattr(torch, options.dtype), device=options.device
        )
    modes = MODES if options.modes else MODES[:1]
    requests = asked(tokenizer, options.prompts, options.longest, modes)
    ways: dict[str, Callable[[], Answers]] = {}
    for rows in options.rows:
        ways[f"taia {rows}"] = partial(ours, Engine(model, tokenizer, max_rows=rows), requests)
        ways[f"generate {rows}"] = partial(by_mode, partial(batches, rows=rows), model, requests)
    if options.continuous:
        ways["continuous"] = partial(by_mode, continuous, model, requests)
    answers = {name: way() for name, way in ways.items()}
    seconds = turns(ways, options.repeats)
    result = _result(Path(folder), options, requests, seconds, answers)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        _print(result)
    return 0 if result["agrees"] or options.dtype != "float32" else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, help="a model folder, if not the demonstration's")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--longest", type=int, default=96, help="tokens of the longest answer")
    parser.add_argument("--rows", type=int, nargs="+", default=[8, 32], help="rows of a batch")
    parser.add_argument("--modes", action="store_true", help="four modes, not base alone")
    parser.add_argument("--continuous", action="store_true", help="transformers' own, too")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each way that count")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser.parse_args(arguments)


def _adapter(folder: Path, scratch: Path) -> Path:
    """An adapter on all linear layers whose update is small and random."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    config = LoraConfig(r=16, target_modules="all-linear", init_lora_weights=False)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    get_peft_model(model, config).save_pretrained(str(scratch))
    return scratch


def asked(
    tokenizer: Any,  # noqa: ANN401 - any tokenizer
    count: int,
    longest: int,
    modes: Sequence[str],
) -> list[Generation]:
    """Questions in turns of the modes, and how long each answer may get."""
    rng = random.Random(0)
    found = questions()
    return [
        Generation(
            modes[number % len(modes)],
            tuple(tokenizer(f"Question: {question.text}\nAnswer:").input_ids),
            max_new_tokens=rng.randint(8, longest),
        )
        for number, question in enumerate(rng.sample(found, count))
    ]


def ours(engine: Engine, requests: Sequence[Generation]) -> Answers:
    """The engine's answers."""
    return [[token.id for token in answer.tokens] for answer in engine.generate(requests)]


def by_mode(
    way: Callable[[Any, Sequence[Generation]], Answers],
    model: SwitchableModel,
    requests: Sequence[Generation],
) -> Answers:
    """Answers of a way that knows one mode at a time."""
    answers: dict[int, list[int]] = {}
    for mode in dict.fromkeys(request.mode for request in requests):
        places = [place for place, request in enumerate(requests) if request.mode == mode]
        with model.mode(mode):
            found = way(model.model, [requests[place] for place in places])
        answers |= dict(zip(places, found, strict=True))
    return [answers[place] for place in range(len(requests))]


def batches(model: Any, requests: Sequence[Generation], rows: int) -> Answers:  # noqa: ANN401 - any causal model
    """The answers of ``generate``, a batch at a time."""
    answers = []
    for first in range(0, len(requests), rows):
        batch = requests[first : first + rows]
        width = max(len(request.prompt) for request in batch)
        padding = [width - len(request.prompt) for request in batch]
        ids = [(0,) * p + r.prompt for p, r in zip(padding, batch, strict=True)]
        mask = (torch.arange(width) >= torch.tensor(padding)[:, None]).long()
        out = model.generate(
            input_ids=torch.tensor(ids, device=model.device),
            attention_mask=mask.to(model.device),
            max_new_tokens=max(request.max_new_tokens for request in batch),
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )[:, width:].tolist()
        answers += [row[: request.max_new_tokens] for row, request in zip(out, batch, strict=True)]
    return answers


def continuous(model: Any, requests: Sequence[Generation]) -> Answers:  # noqa: ANN401 - any causal model
    """The answers of transformers' continuous batching: all to the longest limit, then cut."""
    from transformers import GenerationConfig

    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=max(request.max_new_tokens for request in requests),
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    out = plain.generate_batch([list(r.prompt) for r in requests], generation_config=config)
    found = [
        out[name].generated_tokens for name in sorted(out, key=lambda n: int(n.split("_")[-1]))
    ]
    return [row[: r.max_new_tokens] for row, r in zip(found, requests, strict=True)]


def _result(
    folder: Path,
    options: argparse.Namespace,
    requests: Sequence[Generation],
    seconds: dict[str, list[float]],
    answers: dict[str, Answers],
) -> dict[str, Any]:
    tokens = sum(request.max_new_tokens for request in requests)
    reference = answers[f"generate {options.rows[0]}"]
    ways = {}
    for name, taken in seconds.items():
        median = statistics.median(taken)
        other = statistics.median(seconds[f"generate {options.rows[-1]}"])
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
        "device": options.device if options.device == "cpu" else torch.cuda.get_device_name(),
        "dtype": options.dtype,
        "modes": len({request.mode for request in requests}),
        "prompts": len(requests),
        "tokens": tokens,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "ways": ways,
        "agrees": all(way["equal"] == len(requests) for way in ways.values()),
    }


def _print(result: dict[str, Any]) -> None:
    print(
        f"{result['model']} {result['device']} {result['dtype']}: {result['prompts']} answers in "
        f"{result['modes']} modes, {result['tokens']} tokens, {result['threads']} threads\n"
    )
    print("| | seconds | tokens/s | against generate | same answers |")
    print("| --- | --- | --- | --- | --- |")
    for name, way in result["ways"].items():
        print(
            f"| {name} | {way['median']:.2f} | {way['tokens_per_second']:.0f} "
            f"| {way['speedup']:.2f} | {way['equal']} of {result['prompts']} |"
        )


if __name__ == "__main__":
    raise SystemExit(main())
