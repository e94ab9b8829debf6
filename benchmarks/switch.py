"""What does a change of mode cost, and what do several modes cost in memory and in one batch?

Three measurements of one process, on random weights:

- a switch (median over base, tuned, taia and taif in turn), against loading the composed model from
  disk, which is what the authors' code does, and for adapters against PEFT's ``set_adapter`` to a
  filtered copy of the adapter, and its ``merge_adapter`` and ``unmerge_adapter``;
- the memory of all tensors with base and tuned loaded, against the base's and those that differ;
- a step of decoding with four rows in four modes, against one row in one mode.

``smollm2`` has the shape of SmolLM2-135M (30 layers of width 576). ``7b`` has a 7B's 32 layers of
seven linears, and is narrow on purpose: a switch touches modules and tensors, never their numbers,
so that its time goes with how many there are.

    python benchmarks/switch.py --repeats 50
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from taia import SwitchableModel
from taia.runtime.caches import CACHES
from timing import say

SHAPES: Final[dict[str, dict[str, Any]]] = {
    "smollm2": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "tie_word_embeddings": True,
    },
    "7b": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 32,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "vocab_size": 512,
    },
}
MODES: Final = ("base", "tuned", "taia", "taif")
#: Milliseconds a switch may take; times the tensors' own memory; times one mode's step.
TARGETS: Final = {"smollm2": 1.0, "7b": 10.0, "memory": 1.05, "rows": 2.0}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 1 when a target is missed."""
    options = _options(arguments)
    results: dict[str, Any] = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "repeats": options.repeats,
        "switch": [],
        "memory": [],
    }
    with tempfile.TemporaryDirectory(dir=options.workdir) as scratch:
        for shape in SHAPES:
            folder = Path(scratch) / shape
            save(shape, folder)
            for kind in ("adapter", "checkpoint"):
                say(f"{shape}, {kind}")
                results["memory"].append({"shape": shape, "kind": kind, **memory(folder, kind)})
                times = switching(folder, kind, options.repeats)
                results["switch"].append({"shape": shape, "kind": kind, "milliseconds": times})
        say("rows")
        results["rows"] = decoding(Path(scratch) / "smollm2", options.repeats)
    results["missed"] = missed(results)
    print(json.dumps(results, indent=2) if options.json else table(results))
    return 1 if results["missed"] else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=50, help="rounds that count")
    parser.add_argument("--workdir", type=Path, help="where to work (needs about 2 GB)")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    return parser.parse_args(arguments)


def save(shape: str, folder: Path) -> None:
    """Save a base, an adapter on all its linears, and a checkpoint whose layers all differ."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SHAPES[shape]))
    model.save_pretrained(folder / "base")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".layers." in name:
                parameter.add_(torch.randn_like(parameter), alpha=0.01)
    model.save_pretrained(folder / "checkpoint")
    config = LoraConfig(
        task_type="CAUSAL_LM", target_modules="all-linear", r=16, init_lora_weights=False
    )
    get_peft_model(model, config).save_pretrained(str(folder / "adapter"))


def switching(folder: Path, kind: str, repeats: int) -> dict[str, float]:
    """Median milliseconds of a switch, and of the ways without one."""
    model = SwitchableModel.load(folder / "base", folder / kind, device="cpu")
    found = {"a switch": _median(model.set_mode, MODES, repeats)}
    if kind == "adapter":
        model.set_mode("tuned")
        found |= _peft(model.model, folder / kind, repeats)
    found["reload"] = _median(lambda _: _reload(folder, kind), ("",), max(3, repeats // 10))
    return found


def _peft(model: Any, adapter: Path, repeats: int) -> dict[str, float]:  # noqa: ANN401 - PeftModel
    """PEFT's own ways of coming to another part of an adapter."""
    merging = _median(
        lambda way: getattr(model, way)(),
        ("merge_adapter", "unmerge_adapter"),
        max(3, repeats // 10),
    )
    # As a filtered adapter beside the whole one would be; only the number of layers matters here.
    model.load_adapter(str(adapter), "filtered")
    return {
        "set_adapter": _median(model.set_adapter, ("filtered", "default"), repeats),
        "merge and unmerge": 2 * merging,
    }


def _reload(folder: Path, kind: str) -> None:
    SwitchableModel.load(folder / "base", folder / kind, device="cpu").model.eval()


def _median(act: Callable[[str], object], turns: Sequence[str], repeats: int) -> float:
    """Milliseconds of one of the turns, after a round that does not count."""
    seconds = []
    for round_ in range(repeats + 1):
        for turn in turns:
            start = time.perf_counter()
            act(turn)
            if round_:
                seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds)


def memory(folder: Path, kind: str) -> dict[str, float]:
    """Megabytes of all tensors with base and tuned loaded, and of what there has to be."""
    before = _held()
    base = SwitchableModel.load(folder / "base", None, device="cpu")
    alone = _held() - before
    del base
    before = _held()
    model = SwitchableModel.load(folder / "base", folder / kind, device="cpu")
    both = _held() - before
    part = "lora_" if kind == "adapter" else ".layers."
    changed = sum(p.nbytes for name, p in model.model.named_parameters() if part in name)
    return {"base": alone / 1e6, "changed": changed / 1e6, "both": both / 1e6}


def _held() -> int:
    """Bytes of all tensors that are alive."""
    gc.collect()
    storages = {
        storage.data_ptr(): storage.nbytes()
        for thing in gc.get_objects()
        if type(thing) in (torch.Tensor, torch.nn.Parameter)
        for storage in [thing.untyped_storage()]
    }
    return sum(storages.values())


@torch.inference_mode()
def decoding(folder: Path, repeats: int) -> dict[str, float]:
    """Median milliseconds of a step of decoding after a prompt of 64 tokens."""
    model = SwitchableModel.load(folder / "base", folder / "adapter", device="cpu")
    ways = {
        "one row, tuned": ("tuned",),
        "four rows, tuned": ("tuned",) * 4,
        "four rows, four modes": MODES,
    }
    steps: dict[str, Callable[[], object]] = {}
    for name, modes in ways.items():
        ids = torch.arange(64).repeat(len(modes), 1)
        out = model(ids, modes=modes, use_cache=True)
        cache = {key: out[key] for key in tuple(out) if key in CACHES}
        steps[name] = _step(model, ids[:, :1], cache, modes)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(repeats + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if round_:
                seconds[name].append(time.perf_counter() - start)
    return {name: 1000 * statistics.median(times) for name, times in seconds.items()}


def _step(
    model: SwitchableModel,
    ids: torch.Tensor,
    cache: dict[str, Any],
    modes: Sequence[str],
) -> Callable[[], object]:
    return lambda: model(ids, modes=modes, use_cache=True, **cache)


def missed(results: dict[str, Any]) -> list[str]:
    """The targets that were not reached."""
    found = [
        f"switch of {one['shape']}, {one['kind']}"
        for one in results["switch"]
        if one["milliseconds"]["a switch"] > TARGETS[one["shape"]]
    ]
    found += [
        f"memory of {one['shape']}, {one['kind']}"
        for one in results["memory"]
        if one["both"] > TARGETS["memory"] * (one["base"] + one["changed"])
    ]
    rows = results["rows"]
    if rows["four rows, four modes"] > TARGETS["rows"] * rows["one row, tuned"]:
        found.append("four modes in one batch")
    return found


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        f"{results['threads']} threads, torch {results['torch']}, medians of "
        f"{results['repeats']} rounds",
        "",
        "| model | update | way | ms | × a switch |",
        "| --- | --- | --- | ---: | ---: |",
    ]
    for one in results["switch"]:
        ours = one["milliseconds"]["a switch"]
        lines += [
            f"| {one['shape']} | {one['kind']} | {way} | {ms:.3f} | {ms / ours:,.0f} |"
            for way, ms in one["milliseconds"].items()
        ]
    lines += [
        "",
        "| model | update | base MB | changed MB | base and tuned MB | × base + changed |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for one in results["memory"]:
        ratio = one["both"] / (one["base"] + one["changed"])
        lines.append(
            f"| {one['shape']} | {one['kind']} | {one['base']:.1f} | {one['changed']:.1f} | "
            f"{one['both']:.1f} | {ratio:.3f} |"
        )
    lines += ["", "| a step of decoding | ms | × one row |", "| --- | ---: | ---: |"]
    one_row = results["rows"]["one row, tuned"]
    lines += [f"| {name} | {ms:.1f} | {ms / one_row:.2f} |" for name, ms in results["rows"].items()]
    verdict = "; ".join(results["missed"])
    return "\n".join([*lines, "", f"MISSED: {verdict}" if verdict else "all targets met"])


if __name__ == "__main__":
    raise SystemExit(main())
