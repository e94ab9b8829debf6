"""How fast is composing, and how much memory does it take?

``--job taia`` (the default) makes a pair of bf16 Llama-shaped sharded checkpoints and lets four
ways do the same job:

- ``cp -r`` of the base: the limit, as the output has as many bytes;
- ``taia``: the attention, norms, embeddings and head of the tuned model, the base's FFN;
- ``mergekit``: the same with its ``linear`` method, in an environment of its own;
- ``transformers``: load both, swap the FFN's weights, save.

``--job merge`` merges an adapter of rank 16 on every linear layer into the base: ``cp -r``, ``taia
--merge`` and PEFT's ``merge_and_unload``. ``--job index`` composes 100,000 tensors in 1,000
shards. ``--reflink btrfs`` (or ``xfs``; as root) works on a file system of that kind in a loop
device, where blocks can be shared.

Every contender runs in a fresh process, from its start to its end. Its runs come one after
another, so that each finds the caches as it left them itself (``cp`` is quickest after ``cp``);
its old output is removed and the disk synced before each. Before every block of runs the inputs
are read once, where memory holds them. There are two blocks of each, the second in reverse order,
and the better one counts. ``wall`` ends when the process does; ``on disk`` when the system has
also written everything back. Peak memory is ``ru_maxrss`` of the process.

    python benchmarks/compose.py --gb 2 --repeats 3
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from taia.checkpoint.folders import INDEX
from taia.checkpoint.header import make_header, nbytes
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.sources import Sources, runs_of
from timing import say

#: Targets: wall against cp, peak in MB, and by how much mergekit is slower and larger.
TARGETS: Final = {"peak_mb": 100.0, "faster": 3.0, "smaller": 20.0}
_WALL: Final = {"taia": (1.0, 0.9), "merge": (1.6, 1.6)}  # against cp, below 6 GB and above
_SECONDS: Final = {"index": 10.0, "reflink": 2.0}

_SHARD: Final = 500_000_000
_VOCABULARY: Final = 32_000
_WIDE: Final = 6  # GB from which on the layers are as wide as those of 8B models
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

_MERGE: Final = """
import sys
from taia.checkpoint.compose import compose
compose(*sys.argv[1:4], keep="tuned", merge=True)
"""

_PEFT: Final = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16)
merged = PeftModel.from_pretrained(model, sys.argv[2]).merge_and_unload()
merged.save_pretrained(sys.argv[3], max_shard_size="500MB")
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
        with _file_system(options.reflink, folder, options.gb) as place:
            return _benchmark(options, place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _benchmark(options: argparse.Namespace, folder: Path) -> int:
    say(f"making the inputs in {folder}")
    base, tuned, out = folder / "base", folder / "tuned", folder / "out"
    if options.job == "index":
        for path in (base, tuned):
            make_many(path)
    else:
        make_checkpoint(base, options.gb, 0)
        if options.job == "merge":
            make_adapter(base, tuned)
        else:
            make_checkpoint(tuned, options.gb, 1)
    commands, skipped = _contenders(options, folder, base, tuned, out)
    blocks: dict[str, list[list[Run]]] = {name: [] for name in commands}
    for turn in (list(commands), list(reversed(commands))):
        for name in turn:
            blocks[name].append([])
            for number in range(options.repeats):
                _ready(base, tuned)
                run = measure(commands[name], out)
                blocks[name][-1].append(run)
                say(
                    f"{number + 1}/{options.repeats} {name:13} {run.wall:7.2f} s  on disk "
                    f"{run.on_disk:7.2f} s  {run.peak_mb:8.1f} MB"
                )
            if options.job == "taia" and name != "cp" and len(blocks[name]) == 1:
                _compare(name, base, tuned, out)
    shutil.rmtree(out, ignore_errors=True)
    result = _result(options, base, blocks, skipped)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        _print(result)
    return 0 if all(target["met"] for target in result["targets"].values()) else 1


def _compare(name: str, base: Path, tuned: Path, out: Path) -> None:
    wrong = differences(base, tuned, out)
    if wrong and name == "taia":
        raise SystemExit(f"taia's output is wrong at {wrong[0]}")
    say(f"    {name}: {'same bytes' if not wrong else f'{len(wrong)} tensors differ'}")


def _ready(*folders: Path) -> None:
    """Read the inputs once, if a third of the memory holds them; else empty the caches of them.

    What a run before left in the caches helps whoever reads the same files again, and nobody else.
    """
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    fits = size <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 3
    for file in files:
        with file.open("rb", buffering=0) as stream:
            if fits:
                while stream.read(1 << 20):
                    pass
            else:
                os.fsync(stream.fileno())
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def _file_system(kind: str | None, folder: Path, gigabytes: float) -> Iterator[Path]:
    """A folder on a file system of a kind of its own, in a loop device."""
    if kind is None:
        yield folder
        return
    image, mount = folder / "image", folder / "mount"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(int(gigabytes * 3.5e9) + (1 << 30))
    for command in ([f"mkfs.{kind}", "-q", image], ["mount", "-o", "loop", image, mount]):
        subprocess.run([str(word) for word in command], check=True, capture_output=True)
    try:
        yield mount
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--job", choices=["taia", "merge", "index"], default="taia")
    parser.add_argument("--reflink", choices=["btrfs", "xfs"], help="on such a file system")
    parser.add_argument("--gb", type=float, default=2.0, help="size of each checkpoint")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each block")
    parser.add_argument("--workdir", type=Path, help="where to work (four times --gb is needed)")
    parser.add_argument("--mergekit-python", help="a Python that has mergekit; made if not given")
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        choices=["cp", "mergekit", "transformers", "peft"],
        help="leave a contender out",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser.parse_args(arguments)


def make_checkpoint(folder: Path, gigabytes: float, seed: int) -> None:
    """Write a Llama-shaped bf16 checkpoint of about so many GB, in shards of at most 500 MB."""
    folder.mkdir()
    wide = gigabytes >= _WIDE
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


def make_adapter(base: Path, folder: Path) -> None:
    """Write an adapter of rank 16 and random values for every linear layer of a checkpoint."""
    rank, noise = 16, random.Random(0)
    folder.mkdir()
    tensors: list[tuple[str, str, tuple[int, ...]]] = []
    for name, entry in Checkpoint.open(base).tensors.items():
        if name.endswith("_proj.weight"):
            module = f"base_model.model.{name.removesuffix('.weight')}"
            tensors.append((f"{module}.lora_A.weight", "BF16", (rank, entry.shape[1])))
            tensors.append((f"{module}.lora_B.weight", "BF16", (entry.shape[0], rank)))
    with (folder / "adapter_model.safetensors").open("wb") as stream:
        stream.write(make_header(tensors, {"format": "pt"}))
        for _, dtype, shape in tensors:
            # 0x3c.. and 0xbc..: numbers of about 0.01
            low = noise.randbytes(nbytes(dtype, shape) // 2)
            high = bytes(0x3C | (byte & 0x80) for byte in low)
            stream.write(bytes(byte for pair in zip(low, high, strict=True) for byte in pair))
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": rank,
        "target_modules": [f"{side}_proj" for side in ("q", "k", "v", "o", "gate", "up", "down")],
        "base_model_name_or_path": str(base),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))


def make_many(folder: Path, shards: int = 1000, layers: int = 62, experts: int = 534) -> None:
    """Write a mixture of experts of 100,000 small tensors in many shards."""
    folder.mkdir()
    names = [
        f"model.layers.{layer}.{name}.weight"
        for layer in range(layers)
        for name in (
            *(f"self_attn.{side}_proj" for side in "qkvo"),
            "mlp.gate",
            *(
                f"mlp.experts.{expert}.{side}_proj"
                for expert in range(experts)
                for side in ("gate", "up", "down")
            ),
            *(f"{place}_layernorm" for place in ("input", "post_attention")),
        )
    ]
    names += ["model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"]
    weight_map: dict[str, str] = {}
    for number in range(shards):
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        own = names[number::shards]
        weight_map |= dict.fromkeys(own, file)
        shapes = [(name, (8,) if "norm" in name else (8, 8)) for name in own]
        header = make_header(((name, "BF16", shape) for name, shape in shapes), {"format": "pt"})
        (folder / file).write_bytes(header + bytes(sum(nbytes("BF16", s) for _, s in shapes)))
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    config = {"model_type": "qwen3_moe", "num_hidden_layers": layers, "num_experts": experts}
    (folder / "config.json").write_text(json.dumps(config))


def _contenders(
    options: argparse.Namespace, folder: Path, base: Path, tuned: Path, out: Path
) -> tuple[dict[str, list[str]], dict[str, str]]:
    places = [str(base), str(tuned)]
    commands = {
        "cp": ["cp", "-r", str(base), str(out)],
        "taia": [sys.executable, "-c", _TAIA, *places, str(out)],
    }
    skipped = dict.fromkeys(options.without, "left out by --without")
    if options.job != "taia":
        if options.job == "merge":
            commands["taia"][2] = _MERGE
            if "peft" not in skipped:
                commands["peft"] = [sys.executable, "-c", _PEFT, *places, str(out)]
        return commands, skipped
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
    options: argparse.Namespace,
    base: Path,
    blocks: dict[str, list[list[Run]]],
    skipped: dict[str, str],
) -> dict[str, Any]:
    checkpoint = Checkpoint.open(base)
    best = {
        name: min(found, key=lambda runs: statistics.median(run.wall for run in runs))
        for name, found in blocks.items()
    }
    summary = {
        name: {
            key: {"min": min(values), "median": statistics.median(values)}
            for key in ("wall", "on_disk", "peak_mb")
            for values in [[getattr(run, key) for run in runs]]
        }
        for name, runs in best.items()
    }
    return {
        "job": options.job,
        "bytes": sum(shard.size for shard in checkpoint.shards),
        "shards": len(checkpoint.shards),
        "repeats": options.repeats,
        "cores": os.cpu_count(),
        "contenders": summary,
        "runs": {
            name: [[asdict(run) for run in runs] for runs in found]
            for name, found in blocks.items()
        },
        "skipped": skipped,
        "targets": _targets(options, summary),
    }


def _targets(
    options: argparse.Namespace, summary: dict[str, dict[str, dict[str, float]]]
) -> dict[str, dict[str, Any]]:
    def median(name: str, key: str) -> float:
        return summary[name][key]["median"]

    seconds = "index" if options.job == "index" else "reflink" if options.reflink else None
    bounds: dict[str, tuple[float, str, float]] = {}
    if seconds is not None:
        bounds["seconds"] = (median("taia", "wall"), "at most", _SECONDS[seconds])
    else:
        wall = _WALL[options.job][options.gb >= _WIDE]
        bounds["wall"] = (median("taia", "wall") / median("cp", "wall"), "at most", wall)
    if options.job == "taia":
        bounds["peak_mb"] = (median("taia", "peak_mb"), "at most", TARGETS["peak_mb"])
    if "mergekit" in summary:
        for name, key in (("faster", "wall"), ("smaller", "peak_mb")):
            ratio = median("mergekit", key) / median("taia", key)
            bounds[name] = (ratio, "at least", TARGETS[name])
    return {
        name: {
            "value": value,
            "bound": f"{how} {bound:g}",
            "met": value <= bound if how == "at most" else value >= bound,
        }
        for name, (value, how, bound) in bounds.items()
    }


def _print(result: dict[str, Any]) -> None:
    size = result["bytes"] / 1e9
    print(
        f"{result['job']}: {size:.2f} GB in {result['shards']} shards, medians of "
        f"{result['repeats']} (minima), the better of two blocks"
    )
    print(f"{'':13} {'wall s':>16} {'on disk s':>16} {'peak MB':>10} {'wall / cp':>10}")
    cp = result["contenders"].get("cp", {"wall": {"median": math.nan}})["wall"]["median"]
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
