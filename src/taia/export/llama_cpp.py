"""What reads GGUF files: llama.cpp itself, through llama-cpp-python, and transformers' loader."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from taia.errors import CheckpointError, InputError, RunError
from taia.export.gguf_tokenizer import tokenizer_of
from taia.export.job import Check
from taia.export.trace import STEPS, Trace, compared, distance, follow, spread

if TYPE_CHECKING:
    from taia.export.job import Job, Outtype

#: How far scores may be apart, as a share of their spread, on the same float32 weights: another
#: program's order of sums, sines and exponentials.
PRECISION: Final = 1e-3
#: The same for a whole model by its outtype, whose weights and products are rounded.
ROUNDED: Final = {"f32": PRECISION, "f16": 0.02, "bf16": 0.1, "q8_0": 0.1}
#: How much farther with experts: near a tie, rounding makes a router choose another.
_ROUTED: Final = 3
#: Of llama.cpp's architectures, those that transformers reads whole.
_READ: Final = ("llama", "qwen2", "phi3", "starcoder2", "stablelm")
_TEXTS: Final = (
    "Three things to know before you move: it's 2,048 km, 3 a.m., and £17.50!",
    "  def f(x):\n\treturn x['a'] ** 2  # ok?\n\n",
    "Grüße, naïve façade; Привет, мир; 你好，世界；こんにちは 🚀",
)
_CHILD: Final = Path(__file__).with_name("llama_cpp_child.py")
_REFUSED: Final = 3  # what the child says of a file that is not loaded


def missing() -> str | None:
    """Why llama.cpp cannot be run here, ``None`` if it can."""
    return None if find_spec("llama_cpp") else "llama-cpp-python is not installed"


def run(job: Job, base: Path, adapter: Path) -> Check:
    """Compares llama.cpp's base with the adapter with PEFT's.

    The file's base weights may be rounded or quantised, and the adapter is not to blame for that:
    as much as the bases differ, twice, the adapted models may.

    Raises:
        InputError: If the base's file is no GGUF model, or another model's.
        RunError: If llama.cpp does not load the adapter.
    """
    from importlib.metadata import version

    trace, without = job.source.trace
    assert without is not None, "only adapters are run"
    plain, _ = _answers(base, None, trace)
    if plain.shape != without.shape:
        raise InputError(
            f"{base} has {plain.shape[1]} tokens, and the base model {without.shape[1]}.",
            "Give the base model's own GGUF file with --base-gguf.",
        )
    if distance(plain, without) > spread(without) / 2:  # quantising to four bits is far below that
        raise InputError(
            f"llama.cpp with {base} does not answer as the base model does.",
            "Give the base model's own GGUF file with --base-gguf.",
        )
    return compared(
        f"llama.cpp (llama-cpp-python {version('llama-cpp-python')}) loads it",
        trace,
        _answers(base, adapter, trace)[0],
        precision=PRECISION,
        without=without,
        slack=2 * distance(plain, without),
    )


def run_model(job: Job, file: Path, outtype: Outtype) -> Check:
    """Compares llama.cpp's model with the source, and its tokens of texts with the tokenizer's.

    Raises:
        RunError: If llama.cpp crashes.
    """
    from importlib.metadata import version

    trace, without = job.source.trace
    loader = f"llama.cpp (llama-cpp-python {version('llama-cpp-python')}) loads it"
    found = (tokenizer_of(place) for place in job.source.speakers)
    tokenizer = next((each for each in found if each is not None), None)
    texts = _TEXTS if tokenizer else ()
    try:
        got, cut = _answers(file, None, trace, texts)
    except InputError as error:
        return Check(f"{loader}, and fails: {error.problem}", passed=False)
    if got.shape != trace.logits.shape:
        rows = f"{got.shape[1]} scores a token for the source's {trace.logits.shape[1]}"
        return Check(f"{loader}, and it gives {rows}.", passed=False)
    precision = ROUNDED[outtype] * (_ROUTED if _has_experts(file) else 1)
    done = compared(loader, trace, got, precision=precision, without=without)
    for text, ids in zip(texts, cut, strict=True):
        if tokenizer and ids != list(tokenizer(text)["input_ids"]):
            said = f"{done.said} It cuts {text!r} into other tokens."
            return replace(done, said=said, passed=False)
    return done


def _has_experts(file: Path) -> bool:
    import gguf

    return any(key.endswith(".expert_count") for key in gguf.GGUFReader(file).fields)


def run_in_transformers(job: Job, file: Path, outtype: Outtype) -> Check | None:
    """Compares what transformers reads in the file with the source.

    Returns:
        ``None`` where transformers has no reader for the architecture, or one that drops a part
        of what the file says.
    """
    from importlib.metadata import version

    from transformers import AutoModelForCausalLM

    from taia.loading.models import read_by_transformers
    from taia.loading.quiet import quiet

    if not _is_read(file):
        return None
    loader = f"transformers {version('transformers')} reads the GGUF file"
    try:
        with quiet(), read_by_transformers("The GGUF file"):
            model: Any = AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, dtype=torch.float32, local_files_only=True
            )
    except CheckpointError as error:
        return Check(f"{loader}, and fails: {error.problem}", passed=False)
    trace, without = job.source.trace
    got = follow(model.eval(), trace)
    return compared(loader, trace, got, precision=ROUNDED[outtype], without=without)


def _is_read(file: Path) -> bool:
    """Whether transformers reads all that a file says."""
    import gguf

    reader = gguf.GGUFReader(file)
    said = {key.partition(".")[2]: field for key, field in reader.fields.items()}
    width = said["embedding_length"].contents() // said["attention.head_count"].contents()
    architecture = reader.fields[gguf.Keys.General.ARCHITECTURE].contents()
    biased = any(tensor.name.endswith(".bias") for tensor in reader.tensors)
    return (
        architecture in _READ
        and not (architecture == "llama" and biased)  # it makes a Llama, whose biases are off
        and "expert_count" not in said
        and said["attention.key_length"].contents() == width
        and "rope.scaling.type" not in said
        and not any(tensor.name.startswith("rope_") for tensor in reader.tensors)
    )


def _answers(
    base: Path, adapter: Path | None, trace: Trace, texts: Sequence[str] = ()
) -> tuple[torch.Tensor, list[list[int]]]:
    """Scores over a trace, ``[STEPS, vocabulary]``, and the tokens of texts.

    llama.cpp ends its process where a file is not as it expects. So it has one of its own, and that
    is an error like any other.

    Raises:
        InputError: If the base is not loaded.
        RunError: If the adapter is not, or llama.cpp crashes.
    """
    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "scores.safetensors"
        asked = {
            "base": str(base),
            "adapter": adapter and str(adapter),
            "out": str(out),
            "ids": trace.ids,
            "texts": texts,
            "steps": STEPS,
        }
        done = subprocess.run(
            [sys.executable, "-c", _CHILD.read_text(encoding="utf-8")],
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return load_file(out)["scores"], json.loads(done.stdout.splitlines()[-1])
    why = (done.stdout.strip().splitlines() or [""])[-1]
    if done.returncode != _REFUSED:
        raise RunError(
            f"llama.cpp crashed on {base.name}: its process ended with {done.returncode}.",
            "Update llama-cpp-python, or leave the check out with --no-verify.",
        )
    if adapter is not None:
        raise RunError(
            f"llama.cpp does not load the exported adapter onto {base}: {why}.",
            "Check that the GGUF file is of the adapter's base model.",
        )
    raise InputError(
        f"llama.cpp does not load {base}: {why}.", "Give a GGUF model with --base-gguf."
    )
