"""Where does the time go, and how far is each path from the limit?

The limit of a path is what transformers' own model needs for the same tokens: each forward of the
path is recorded, its tokens and at how many positions logits were asked for, and as many tokens run
again through the plain model, without a cache, an adapter, or anything around it. Both in turns.

The paths: options rated by their texts and by their letters, and whole texts (rolling); of answers
the prompts (prefill), what follows (decode), the same drawn instead of greedy (sampling), with an
adapter (tuned), and with the rows of a batch in four modes (mixed). A profiler, in a turn that does
not count, tells what part of the time the matrix products are, attention, and all else.

    python benchmarks/paths.py --limit 20 --repeats 3
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch

from asked import with_letters
from eval_modes import MODES, make_adapter
from taia.demo.model import cached_model
from taia.demo.questions import Question, encode
from taia.demo.setting import questions
from taia.runtime.engine import Engine
from taia.runtime.generation import Generation
from taia.runtime.likelihood import likelihoods
from taia.runtime.rating import Request
from taia.runtime.switchable import SwitchableModel
from timing import say

#: Of a path's time to the limit's, at most, where a forward is nearly all there is to do.
TARGET: Final = 1.3
#: The paths that have it.
_BOUND: Final = ("texts", "letters", "rolling", "prefill")

#: Runs a path and returns its seconds.
Path_: TypeAlias = Callable[[], float]


@dataclass
class Work:
    """What ran through a model.

    Attributes:
        shapes: Rows, columns and positions of logits of each forward.
    """

    shapes: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """Positions of the layers, padding included."""
        return sum(rows * columns for rows, columns, _ in self.shapes)

    @property
    def logits(self) -> int:
        """Positions of the head."""
        return sum(rows * keep for rows, _, keep in self.shapes)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 1 when a path misses its target."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = _options(arguments)
    folder = options.model or cached_model(say=say)
    dtype = getattr(torch, options.dtype)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    plain: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
    with tempfile.TemporaryDirectory(prefix="taia-") as scratch:
        adapter = make_adapter(folder, Path(scratch))
        model = SwitchableModel.load(folder, adapter, dtype=dtype, device="cpu")
    found = {}
    for name, path in paths(model, tokenizer, options).items():
        found[name] = measure(name, path, model.model, plain, options.repeats)
    result = {
        "model": Path(folder).name,
        "dtype": options.dtype,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "paths": found,
    }
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        _print(result)
    missed = [name for name in _BOUND if found[name]["ratio"] > TARGET]
    return 1 if missed else 0


def paths(
    model: SwitchableModel,
    tokenizer: Any,  # noqa: ANN401 - any
    options: argparse.Namespace,
) -> dict[str, Path_]:
    """The paths by name."""
    asked = questions(options.limit)
    texts = [encode(tokenizer, question) for question in asked]
    letters = [encode(tokenizer, _lettered(question)) for question in asked]
    whole = "\n\n".join(question.text for question in asked)
    ids = tuple(tokenizer(whole, add_special_tokens=False).input_ids)
    windows = [
        Request(ids[at : at + 1], (ids[at + 1 : at + 256],)) for at in range(0, len(ids), 256)
    ]
    windows = [window for window in windows if window.options[0]]
    prompts = [request.prompt for request in texts][: options.rows]
    rate = partial(_rated, model)
    write = partial(_written, model, tokenizer, prompts, options.rows)
    return {
        "texts": partial(rate, "base", texts),
        "letters": partial(rate, "base", letters),
        "rolling": partial(rate, "base", windows),
        "texts, tuned": partial(rate, "tuned", texts),
        "prefill": partial(write, MODES[:1], 1),
        "decode": partial(write, MODES[:1], 32),
        "sampling": partial(write, MODES[:1], 32, temperature=0.8),
        "decode, tuned": partial(write, MODES[1:2], 32),
        "decode, mixed": partial(write, MODES, 32),
    }


def measure(
    name: str,
    path: Path_,
    model: Any,  # noqa: ANN401 - any causal model
    plain: Any,  # noqa: ANN401 - any causal model
    repeats: int,
) -> dict[str, Any]:
    """A path and its limit, in turns."""
    with recorded(model) as work:
        path()
    timed: dict[str, list[float]] = {"path": [], "limit": []}
    replay(plain, work)
    for _ in range(repeats):
        timed["path"].append(path())
        timed["limit"].append(replay(plain, work))
    median = {way: statistics.median(seconds) for way, seconds in timed.items()}
    say(f"{name}: {median['path']:.2f} s, limit {median['limit']:.2f} s")
    return {
        "tokens": work.tokens,
        "logits": work.logits,
        "forwards": len(work.shapes),
        "median": median,
        "ratio": median["path"] / median["limit"],
        "parts": parts(path),
        "seconds": timed,
    }


@contextmanager
def recorded(model: Any) -> Iterator[Work]:  # noqa: ANN401 - any causal model
    """What runs through a model, for as long as the block runs; not what it is tried with."""
    work = Work()

    def look(_module: object, _args: object, given: Mapping[str, Any]) -> None:
        work.shapes.append((*given["input_ids"].shape, given["logits_to_keep"]))

    hook = model.register_forward_pre_hook(look, with_kwargs=True)
    try:
        yield work
    finally:
        hook.remove()


@torch.inference_mode()
def replay(plain: Any, work: Work) -> float:  # noqa: ANN401 - any causal model
    """Run as many tokens through the plain model; seconds."""
    start = time.perf_counter()
    for rows, columns, keep in work.shapes:
        ids = torch.ones(rows, columns, dtype=torch.long)
        plain(input_ids=ids, logits_to_keep=keep, use_cache=False)
    return time.perf_counter() - start


def parts(path: Path_) -> dict[str, float]:
    """What part of the operators' time is the matrix products', attention's, and other's."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as found:
        path()
    spent = {"products": 0.0, "attention": 0.0, "other": 0.0}
    for event in found.key_averages():
        of = "attention" if "attention" in event.key else "other"
        of = "products" if event.key in ("aten::mm", "aten::addmm", "aten::bmm") else of
        of = "products" if "mkldnn" in event.key else of
        spent[of] += event.self_cpu_time_total
    whole = sum(spent.values())
    return {name: time_ / whole for name, time_ in spent.items()}


def _rated(model: SwitchableModel, mode: str, requests: Sequence[Request]) -> float:
    start = time.perf_counter()
    with model.mode(mode):
        likelihoods(model.model, requests)
    return time.perf_counter() - start


def _written(
    model: SwitchableModel,
    tokenizer: Any,  # noqa: ANN401 - any
    prompts: Sequence[tuple[int, ...]],
    rows: int,
    modes: Sequence[str],
    longest: int,
    temperature: float = 0.0,
) -> float:
    """The time of the prompts, or of all that follows them."""
    each = prompts[: rows // len(modes)]
    engine = Engine(model, tokenizer, max_rows=rows)
    for mode in modes:
        for prompt in each:
            engine.add(Generation(mode, prompt, longest, temperature=temperature, seed=0))
    start = time.perf_counter()
    engine.step()
    prefill = time.perf_counter() - start
    while engine.has_work:
        engine.step()
    return time.perf_counter() - start - (prefill if longest > 1 else 0)


def _lettered(question: Question) -> Question:
    """Its options listed, and their letters in their place."""
    text, letters = with_letters(question.text, question.options)
    return Question(question.id, question.kind, text, letters, question.answer)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, help="a model folder, if not the demonstration's")
    parser.add_argument("--limit", type=int, default=10, help="questions of each kind")
    parser.add_argument("--rows", type=int, default=32, help="answers at once")
    parser.add_argument("--dtype", default="float32", help="what is computed in")
    parser.add_argument("--repeats", type=int, default=3, help="turns that count")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser.parse_args(arguments)


def _print(result: dict[str, Any]) -> None:
    print(
        f"{result['model']}, {result['dtype']}, "
        f"{result['threads']} threads of {result['cores']} cores"
    )
    heads = ("tokens", "logits", "forwards", "s", "limit s", "ratio")
    print(f"{'':14}" + "".join(f"{head:>9}" for head in (*heads, "products", "attention", "other")))
    for name, path in result["paths"].items():
        print(
            f"{name:14}{path['tokens']:9,}{path['logits']:9,}{path['forwards']:9}"
            f"{path['median']['path']:9.2f}{path['median']['limit']:9.2f}{path['ratio']:9.2f}"
            + "".join(f"{part:9.0%}" for part in path["parts"].values())
        )
    print(f"target: {', '.join(_BOUND)} within {TARGET} of the limit")


if __name__ == "__main__":
    raise SystemExit(main())
