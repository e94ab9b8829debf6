"""What does it gain to compute each prompt once, and to share its cache among the options?

Scores the demonstration's questions in three ways, in turns, in one process:

- ``shared``: what taia does: each prompt runs once, its options continue its cache;
- ``apart``: taia's own way for models whose cache cannot be continued: a row for each option,
  prompt and all, sorted by length, with logits only where an option's token is predicted;
- ``plain``: what a loop over transformers does: for each question one padded batch of its rows,
  with logits at every position.

The scores must agree, or the times mean nothing. A round that is not counted comes first.

Modes share nothing among themselves. A mode changes keys and values from the first layer on whose
weights it changes, and for all modes but a few selections of late layers (``attention[15:]``) that
is the first layer, so that no more than the embeddings would be shared, which cost nothing.

    python benchmarks/likelihood.py --limit 10 --repeats 3
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch

from taia.demo.model import cached_model
from taia.demo.questions import encode
from taia.demo.setting import questions
from taia.runtime.likelihood import likelihoods
from taia.runtime.rating import Request
from timing import say, turns

#: Nats by which two ways may score an option differently; they add the same numbers in float32 in
#: another order.
TOLERANCE: Final = 1e-3

Scores: TypeAlias = list[list[float]]


@dataclass
class Work:
    """What ran through a model.

    Attributes:
        tokens: Positions of the layers, padding included.
        logits: Positions of the head.
    """

    tokens: int = 0
    logits: int = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 1 when the scores do not agree."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = _options(arguments)
    folder = options.model or cached_model(say=say)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True
    )
    requests = [encode(tokenizer, question) for question in questions(options.limit)]
    ways: dict[str, Callable[[], Scores]] = {
        "shared": lambda: ours(model, requests, share=True),
        "apart": lambda: ours(model, requests, share=False),
        "plain": lambda: plain(model, requests),
    }
    work: dict[str, Work] = {}
    scores: dict[str, Scores] = {}
    for name, way in ways.items():
        with counted(model) as work[name]:
            scores[name] = way()
    seconds = turns(ways, options.repeats)
    result = _result(Path(folder), requests, seconds, work, scores)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        _print(result)
    return 0 if result["agrees"] else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, help="a model folder, if not the demonstration's")
    parser.add_argument("--limit", type=int, default=10, help="questions of each kind")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each way that count")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser.parse_args(arguments)


def ours(model: Any, requests: Sequence[Request], share: bool) -> Scores:  # noqa: ANN401 - any causal model
    """Score each option of each request as taia does."""
    found = likelihoods(model, requests, share=share)
    return [[option.logprob for option in row] for row in found]


@torch.inference_mode()
def plain(model: Any, requests: Sequence[Request]) -> Scores:  # noqa: ANN401 - any causal model
    """Score each option of each request with one padded forward pass a request."""
    scores = []
    for request in requests:
        rows = [torch.tensor(request.prompt + option) for option in request.options]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        lengths = torch.tensor([len(row) for row in rows])
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        logs = model(input_ids=ids, attention_mask=mask).logits.float().log_softmax(-1)
        found = logs[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]
        start = len(request.prompt) - 1
        scores.append(
            [
                float(found[row, start : start + len(option)].double().sum())
                for row, option in enumerate(request.options)
            ]
        )
    return scores


@contextmanager
def counted(model: Any) -> Iterator[Work]:  # noqa: ANN401 - any causal model
    """Count what runs through a model, for as long as the block runs."""
    work = Work()

    def layers(_module: object, _args: object, kwargs: Mapping[str, torch.Tensor]) -> None:
        work.tokens += kwargs["input_ids"].numel()

    def head(_module: object, args: tuple[torch.Tensor, ...]) -> None:
        work.logits += args[0].shape[:-1].numel()

    hooks = [
        model.register_forward_pre_hook(layers, with_kwargs=True),
        model.get_output_embeddings().register_forward_pre_hook(head),
    ]
    try:
        yield work
    finally:
        for hook in hooks:
            hook.remove()


def _result(
    folder: Path,
    requests: Sequence[Request],
    seconds: Mapping[str, list[float]],
    work: Mapping[str, Work],
    scores: Mapping[str, Scores],
) -> dict[str, Any]:
    shared = statistics.median(seconds["shared"])
    ways: dict[str, dict[str, Any]] = {
        name: {
            "median": statistics.median(taken),
            "min": min(taken),
            "ratio": statistics.median(taken) / shared,
            "tokens": work[name].tokens,
            "logits": work[name].logits,
            "difference": _difference(scores[name], scores["shared"]),
            "seconds": taken,
        }
        for name, taken in seconds.items()
    }
    return {
        "model": folder.name,
        "questions": len(requests),
        "options": sum(len(request.options) for request in requests),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "ways": ways,
        "tolerance": TOLERANCE,
        "agrees": all(way["difference"] <= TOLERANCE for way in ways.values()),
    }


def _difference(one: Scores, other: Scores) -> float:
    rows = zip(one, other, strict=True)
    return max(abs(a - b) for row in rows for a, b in zip(*row, strict=True))


def _print(result: dict[str, Any]) -> None:
    print(
        f"{result['model']}: {result['questions']} questions, {result['options']} options, "
        f"{result['threads']} threads"
    )
    heads = ("median s", "least s", "/ shared", "tokens", "logits", "differs by")
    print(f"{'':8}" + "".join(f"{head:>11}" for head in heads))
    for name, way in result["ways"].items():
        print(
            f"{name:8}{way['median']:11.2f}{way['min']:11.2f}{way['ratio']:11.2f}"
            f"{way['tokens']:11,}{way['logits']:11,}{way['difference']:11.1e}"
        )
    verdict = "agree" if result["agrees"] else "DO NOT AGREE"
    print(f"the scores {verdict} within {result['tolerance']:g} nats")


if __name__ == "__main__":
    raise SystemExit(main())
