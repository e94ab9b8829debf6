"""llama.cpp itself, through llama-cpp-python: the base's GGUF file with the exported adapter."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from taia.errors import InputError, RunError
from taia.export.follow import STEPS, Trace, compared, distance
from taia.export.result import Check

if TYPE_CHECKING:
    from taia.export.job import Job

#: How far scores may be apart, as a share of their spread, on the same float32 weights: another
#: program's order of sums, sines and exponentials.
PRECISION: Final = 1e-3
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
    return compared(
        f"llama.cpp (llama-cpp-python {version('llama-cpp-python')}) loads it",
        trace,
        scores(base, adapter, trace),
        precision=PRECISION,
        without=without,
        slack=2 * distance(plain, without),
    )


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
        model.eval(list(trace.ids))
        return torch.from_numpy(model.scores[len(trace.ids) - STEPS : len(trace.ids)].copy())
    finally:
        model.close()


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
