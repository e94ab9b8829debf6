"""How fast is composing, and how much memory does it take?

Makes a pair of bf16 Llama-shaped sharded checkpoints and lets four ways do the same job, in turns:

- ``cp -r`` of the base: the limit, as the output has as many bytes;
- ``taia``: the attention, norms, embeddings and head of the tuned model, the base's FFN;
- ``mergekit``: the same with its ``linear`` method, in an environment of its own;
- ``transformers``: load both, swap the FFN's weights, save.

Every contender runs in a fresh process. Before each its old output is removed and the disk synced,
so that nobody pays for another's writes; the inputs are in the page cache for all as far as memory
allows, because the turns alternate. ``wall`` ends when the process does; ``on disk`` when the
system has also written everything back. Peak memory is ``ru_maxrss`` of the process.

    python benchmarks/compose.py --gb 2 --repeats 3
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from taia.checkpoint.header import make_header, nbytes
from taia.checkpoint.index import INDEX, Checkpoint
from taia.checkpoint.sources import Sources
from taia.checkpoint.steps import runs_of
from timing import say

#: Targets: wall against cp, peak in MB, and by how much mergekit is slower and larger.
TARGETS: Final = {"wall": 1.15, "peak_mb": 100.0, "faster": 3.0, "smaller": 20.0}

_SHARD: Final = 500_000_000
_VOCABULARY: Final = 32_000
_MERGEKIT: Final = ("torch==2.13.0", "mergekit==0.1.5")

_RANDOM: Final = """
import sys, torch
torch.manual_seed(int(sys.argv[2]))
block = bytearray(1 << 25)
torch.frombuffer(block, dtype=torch.bfloat16).copy_(torch.randn(1 << 24) * 0.02)
open(sys.argv[1], "wb").write(block)
"""

_TAIA: Final = """
import sys
from taia.checkpoint.compose import compose
compose(*sys.argv[1:4])
"""

_TRANSFORMERS: Final = """
import sys, torch
from transformers import AutoModelForCausalLM
base, tuned = (AutoModelForCausalLM.from_pretrained(p, dtype=torch.bfloat16) for p in sys.argv[1:3])
with torch.no_grad():
    for name, weight in tuned.named_parameters():
        if ".mlp." in name:
            weight.copy_(base.get_parameter(name))
tuned.save_pretrained(sys.argv[3], max_shard_size="500MB")
"""

_RECIPE: Final = """
merge_method: linear
dtype: bfloat16
models:
  - model: {base}
    parameters:
      weight:
        - filter: mlp
          value: 1.0
        - value: 0.0
  - model: {tuned}
    parameters:
      weight:
        - filter: mlp
          value: 0.0
        - value: 1.0
"""


@dataclass(frozen=True)
class Run:
    """One process.

    Attributes:
        wall: Seconds until it ended.
        on_disk: Seconds until its output was on the disk.
        peak_mb: Its largest resident memory, in MB.
    """

    wall: float
    on_disk: float
    peak_mb: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 1 when a target is missed."""
    options = _options(arguments)
    if options.workdir:
        options.workdir.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="taia-bench-", dir=options.workdir))
    try:
        return _benchmark(options, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _benchmark(options: argparse.Namespace, folder: Path) -> int:
    say(f"making two checkpoints of {options.gb:g} GB in {folder}")
    base, tuned, out = folder / "base", folder / "tuned", folder / "out"
    for path, seed in ((base, 0), (tuned, 1)):
        make_checkpoint(path, options.gb, seed)
    commands, skipped = _contenders(options, folder, base, tuned, out)
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for turn in range(options.repeats):
        for name, command in commands.items():
            run = measure(command, out)
            runs[name].append(run)
            say(
                f"{turn + 1}/{options.repeats} {name:13} {run.wall:7.2f} s  on disk "
                f"{run.on_disk:7.2f} s  {run.peak_mb:8.1f} MB"
            )
            if turn == 0 and name != "cp":
                wrong = differences(base, tuned, out)
                if wrong and name == "taia":
                    raise SystemExit(f"taia's output is wrong at {wrong[0]}")
                say(f"    {name}: {'same bytes' if not wrong else f'{len(wrong)} tensors differ'}")
    shutil.rmtree(out, ignore_errors=True)
    result = _result(options, base, runs, skipped)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        _print(result)
    return 0 if all(target["met"] for target in result["targets"].values()) else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--gb", type=float, default=2.0, help="size of each checkpoint")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each contender")
    parser.add_argument("--workdir", type=Path, help="where to work (four times --gb is needed)")
    parser.add_argument("--mergekit-python", help="a Python that has mergekit; made if not given")
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        choices=["mergekit", "transformers"],
        help="leave a contender out",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser.parse_args(arguments)


def make_checkpoint(folder: Path, gigabytes: float, seed: int) -> None:
    """Write a Llama-shaped bf16 checkpoint of about so many GB, in shards of at most 500 MB."""
    folder.mkdir()
    wide = gigabytes >= 6
    hidden, inner, heads, groups = (4096, 14336, 32, 8) if wide else (2048, 8192, 32, 8)
    width = hidden // heads * groups
    attention = {
        "q": (hidden, hidden),
        "k": (width, hidden),
        "v": (width, hidden),
        "o": (hidden,) * 2,
    }
    mlp = {"gate": (inner, hidden), "up": (inner, hidden), "down": (hidden, inner)}
    layer: dict[str, tuple[int, ...]]
    layer = {f"self_attn.{name}_proj.weight": shape for name, shape in attention.items()}
    layer |= {f"mlp.{name}_proj.weight": shape for name, shape in mlp.items()}
    layer |= {f"{name}_layernorm.weight": (hidden,) for name in ("input", "post_attention")}
    outside = dict.fromkeys(("model.embed_tokens.weight", "lm_head.weight"), (_VOCABULARY, hidden))
    per_layer, rest = (sum(nbytes("BF16", s) for s in t.values()) for t in (layer, outside))
    depth = max(1, round((gigabytes * 1e9 - rest) / per_layer))
    tensors: dict[str, tuple[int, ...]] = {**outside, "model.norm.weight": (hidden,)}
    for number in range(depth):
        tensors |= {f"model.layers.{number}.{name}": shape for name, shape in layer.items()}
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "vocab_size": _VOCABULARY,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "rms_norm_eps": 1e-05,
    }
    (folder / "config.json").write_text(json.dumps(config))
    _write_shards(folder, tensors, seed)


def _write_shards(folder: Path, tensors: dict[str, tuple[int, ...]], seed: int) -> None:
    noise = folder / "noise"
    subprocess.run([sys.executable, "-c", _RANDOM, str(noise), str(seed)], check=True)
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    filled = 0
    for name, shape in tensors.items():
        size = nbytes("BF16", shape)
        if filled and filled + size > _SHARD:
            shards.append({})
            filled = 0
        shards[-1][name] = shape
        filled += size
    weight_map, total, offset = {}, 0, 0
    for number, shard in enumerate(shards):
        file = f"model-{number + 1:05}-of-{len(shards):05}.safetensors"
        with noise.open("rb") as source, (folder / file).open("wb") as stream:
            length = source.seek(0, 2)
            stream.write(make_header(((n, "BF16", s) for n, s in shard.items()), {"format": "pt"}))
            for name, shape in shard.items():
                weight_map[name] = file
                left = nbytes("BF16", shape)
                total += left
                offset = (offset + 7_654_322) % length  # no two tensors alike
                while left:
                    # in small pieces: a child's ru_maxrss begins with its parent's
                    source.seek(offset)
                    piece = source.read(min(left, 1 << 20))
                    stream.write(piece)
                    left -= len(piece)
                    offset = (offset + len(piece)) % length
    noise.unlink()
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index))


def _contenders(
    options: argparse.Namespace, folder: Path, base: Path, tuned: Path, out: Path
) -> tuple[dict[str, list[str]], dict[str, str]]:
    places = [str(base), str(tuned)]
    commands = {
        "cp": ["cp", "-r", str(base), str(out)],
        "taia": [sys.executable, "-c", _TAIA, *places, str(out)],
    }
    skipped = dict.fromkeys(options.without, "left out by --without")
    if "mergekit" not in skipped:
        python, why = _mergekit(options.mergekit_python, folder)
        if python is None:
            skipped["mergekit"] = why
        else:
            recipe = folder / "mergekit.yaml"
            recipe.write_text(_RECIPE.format(base=base, tuned=tuned))
            script = Path(python).parent / "mergekit-yaml"
            commands["mergekit"] = [
                str(script),
                str(recipe),
                str(out),
                "--out-shard-size",
                str(_SHARD),
                "--no-copy-tokenizer",
            ]
    if "transformers" not in skipped:
        commands["transformers"] = [sys.executable, "-c", _TRANSFORMERS, *places, str(out)]
    return commands, skipped


def _mergekit(python: str | None, folder: Path) -> tuple[str | None, str]:
    """A Python with mergekit, or why there is none."""
    if python is None:
        say("installing mergekit in an environment of its own")
        environment = folder / "mergekit"
        python = str(environment / "bin" / "python")
        for command in (
            [sys.executable, "-m", "venv", str(environment)],
            [python, "-m", "pip", "install", "-q", *_MERGEKIT],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                return None, (done.stderr.strip().splitlines() or ["it failed"])[-1]
    done = subprocess.run(
        [python, "-c", "import mergekit"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return None, (done.stderr.strip().splitlines() or ["it cannot be imported"])[-1]
    return python, ""


def measure(command: list[str], out: Path) -> Run:
    """Run a command that writes ``out``, in a fresh process on a quiet disk.

    Raises:
        SystemExit: If it fails.
    """
    shutil.rmtree(out, ignore_errors=True)
    os.sync()
    with tempfile.TemporaryFile() as log:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        os.sync()
        on_disk = time.perf_counter() - start
        if process.returncode:
            log.seek(0)
            raise SystemExit(f"{command[0]} failed:\n{log.read().decode(errors='replace')[-2000:]}")
    return Run(wall, on_disk, usage.ru_maxrss * 1024 / 1e6)


def differences(base: Path, tuned: Path, out: Path) -> list[str]:
    """The tensors whose bytes are not the base's (FFN) or the tuned model's (all else)."""
    sides = [Checkpoint.open(path).tensors for path in (base, tuned, out)]
    wrong = []
    with Sources() as sources:
        for name, entry in sides[0].items():
            right = entry if ".mlp." in name else sides[1][name]
            if name not in sides[2] or not sources.same(
                runs_of(right, "base"), runs_of(sides[2][name], "tuned")
            ):
                wrong.append(name)
    return wrong


def _result(
    options: argparse.Namespace, base: Path, runs: dict[str, list[Run]], skipped: dict[str, str]
) -> dict[str, Any]:
    checkpoint = Checkpoint.open(base)
    summary = {
        name: {
            key: {"min": min(values), "median": statistics.median(values)}
            for key in ("wall", "on_disk", "peak_mb")
            for values in [[getattr(run, key) for run in done]]
        }
        for name, done in runs.items()
    }
    return {
        "bytes": sum(shard.size for shard in checkpoint.shards),
        "shards": len(checkpoint.shards),
        "repeats": options.repeats,
        "cores": os.cpu_count(),
        "contenders": summary,
        "runs": {name: [asdict(run) for run in done] for name, done in runs.items()},
        "skipped": skipped,
        "targets": _targets(summary),
    }


def _targets(summary: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, Any]]:
    def median(name: str, key: str) -> float:
        return summary[name][key]["median"]

    found = {
        "wall": (median("taia", "wall") / median("cp", "wall"), "at most"),
        "peak_mb": (max(median("taia", "peak_mb"), 0.0), "at most"),
    }
    if "mergekit" in summary:
        found["faster"] = (median("mergekit", "wall") / median("taia", "wall"), "at least")
        found["smaller"] = (median("mergekit", "peak_mb") / median("taia", "peak_mb"), "at least")
    return {
        name: {
            "value": value,
            "bound": f"{how} {TARGETS[name]:g}",
            "met": value <= TARGETS[name] if how == "at most" else value >= TARGETS[name],
        }
        for name, (value, how) in found.items()
    }


def _print(result: dict[str, Any]) -> None:
    size = result["bytes"] / 1e9
    print(f"{size:.2f} GB in {result['shards']} shards, medians of {result['repeats']} (minima)")
    print(f"{'':13} {'wall s':>16} {'on disk s':>16} {'peak MB':>10} {'wall / cp':>10}")
    cp = result["contenders"]["cp"]["wall"]["median"]
    for name, found in result["contenders"].items():
        wall, disk, peak = (found[key] for key in ("wall", "on_disk", "peak_mb"))
        times = (f"{key['median']:7.2f} ({key['min']:6.2f})" for key in (wall, disk))
        ratio = wall["median"] / cp
        print(f"{name:13} {' '.join(times)} {peak['median']:10.1f} {ratio:10.2f}")
    for name, why in result["skipped"].items():
        print(f"{name:13} skipped: {why}")
    for name, target in result["targets"].items():
        verdict = "met" if target["met"] else "MISSED"
        print(f"target {name:8} {target['value']:8.2f}  {target['bound']:14} {verdict}")


if __name__ == "__main__":
    raise SystemExit(main())
