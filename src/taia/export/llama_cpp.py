"""What reads GGUF files: llama.cpp itself, through llama-cpp-python, and transformers' loader."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from taia.errors import CheckpointError, InputError, RunError, first_line
from taia.export.job import Check
from taia.export.trace import STEPS, Trace, compared, distance, spread
from taia.loading import load_tokenizer

if TYPE_CHECKING:
    from taia.export.job import Job
    from taia.export.targets import Outtype

#: How far scores may be apart, as a share of their spread, on the same float32 weights: another
#: program's order of sums, sines and exponentials.
PRECISION: Final = 1e-3
#: The same for a whole model by its outtype, whose weights and products are rounded.
ROUNDED: Final = {"f32": PRECISION, "f16": 0.02, "bf16": 0.1, "q8_0": 0.1}
#: Of llama.cpp's architectures, those that transformers reads whole.
_READ: Final = ("llama", "qwen2", "phi3", "starcoder2", "stablelm")
_TEXTS: Final = (
    "Three things to know before you move: it's 2,048 km, 3 a.m., and £17.50!",
    "  def f(x):\n\treturn x['a'] ** 2  # ok?\n\n",
    "Grüße, naïve façade; Привет, мир; 你好，世界；こんにちは 🚀",
)
_F32: Final = 0  # of ggml's types


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

    trace, without = job.trace
    if without is None:
        raise ValueError("only adapters are run")
    plain = scores(base, None, trace)
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
        scores(base, adapter, trace),
        precision=PRECISION,
        without=without,
        slack=2 * distance(plain, without),
    )


def run_model(job: Job, file: Path, outtype: Outtype) -> Check:
    """Compares llama.cpp's model with the source, and its tokens of texts with the tokenizer's."""
    from importlib.metadata import version

    trace, without = job.trace
    loader = f"llama.cpp (llama-cpp-python {version('llama-cpp-python')}) loads it"
    try:
        model = _load(file, None, len(trace.ids))
    except InputError as error:
        return Check(f"{loader}, and fails: {error.problem}", passed=False)
    try:
        got = _scores(model, trace)
        wrong = _cut_otherwise(job, model)
    finally:
        model.close()
    if got.shape != trace.logits.shape:
        rows = f"{got.shape[1]} scores a token for the source's {trace.logits.shape[1]}"
        return Check(f"{loader}, and it gives {rows}.", passed=False)
    done = compared(loader, trace, got, precision=ROUNDED[outtype], without=without)
    if wrong is None:
        return done
    return replace(done, said=f"{done.said} It cuts {wrong!r} into other tokens.", passed=False)


def read_by_transformers(job: Job, file: Path, outtype: Outtype) -> Check | None:
    """Compares what transformers reads in the file with the source.

    Returns:
        ``None`` where transformers has no reader for the architecture, or one that drops a part
        of what the file says.
    """
    from importlib.metadata import version

    from transformers import AutoModelForCausalLM

    from taia.export.trace import follow
    from taia.loading import quiet

    if not _is_read(file):
        return None
    loader = f"transformers {version('transformers')} reads the GGUF file"
    with quiet():
        try:
            model = AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, dtype=torch.float32, local_files_only=True
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            return Check(f"{loader}, and fails: {first_line(error)}.", passed=False)
    trace, without = job.trace
    return compared(
        loader,
        trace,
        follow(model.eval(), trace),
        precision=ROUNDED[outtype],
        without=without,
    )


def _is_read(file: Path) -> bool:
    """Whether transformers reads all that a file says."""
    import gguf

    reader = gguf.GGUFReader(file)
    said = {key.partition(".")[2]: field for key, field in reader.fields.items()}
    width = said["embedding_length"].contents() // said["attention.head_count"].contents()
    return (
        reader.fields[gguf.Keys.General.ARCHITECTURE].contents() in _READ
        and "expert_count" not in said
        and said["attention.key_length"].contents() == width
        and "rope.scaling.type" not in said
        and not any(tensor.name.startswith("rope_") for tensor in reader.tensors)
    )


def _cut_otherwise(job: Job, model: Any) -> str | None:  # noqa: ANN401 - untyped
    """The first text that llama.cpp cuts into other tokens than the tokenizer, if any."""
    places = (
        [job.source.place] if job.source.adapter is None else [job.source.place, job.source.base]
    )
    for place in places:
        try:
            tokenizer = load_tokenizer(place)
        except CheckpointError:
            continue
        break
    else:
        return None
    for text in _TEXTS:
        if list(tokenizer(text)["input_ids"]) != model.tokenize(text.encode(), special=True):
            return text
    return None


def scores(base: Path, adapter: Path | None, trace: Trace) -> torch.Tensor:
    """llama.cpp's scores at the steps of a trace, ``[STEPS, vocabulary]``.

    Args:
        base: The base's GGUF file.
        adapter: An adapter's, or none.
        trace: Which tokens.

    Raises:
        InputError: If the base is not loaded.
        RunError: If the adapter is not.
    """
    model = _load(base, adapter, len(trace.ids))
    try:
        return _scores(model, trace)
    finally:
        model.close()


def _scores(model: Any, trace: Trace) -> torch.Tensor:  # noqa: ANN401 - untyped
    model.eval(list(trace.ids))
    return torch.from_numpy(model.scores[len(trace.ids) - STEPS : len(trace.ids)].copy())


def _load(base: Path, adapter: Path | None, length: int) -> Any:  # noqa: ANN401 - untyped
    from llama_cpp import Llama

    try:
        return Llama(
            str(base),
            lora_path=None if adapter is None else str(adapter),
            n_ctx=length,
            n_batch=length,
            logits_all=True,
            type_k=_F32,
            type_v=_F32,
            verbose=False,
        )
    except (ValueError, RuntimeError) as error:
        if adapter is not None:
            raise RunError(
                f"llama.cpp does not load the exported adapter onto {base}: {error}.",
                "Check that the GGUF file is of the adapter's base model.",
            ) from error
        raise InputError(
            f"llama.cpp does not load {base}: {error}.", "Give a GGUF model with --base-gguf."
        ) from error
