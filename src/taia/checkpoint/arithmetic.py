"""All that is calculated with weights on disk: base + α·(tuned − base), and ΔW = s·B·A.

Sums are taken in float32 (float64 where a tensor is) and rounded once. Formulas and orientations of
updates are PEFT's (peft 0.21, ``tuners/lora/layer.py``, ``dora.py``), seen with the parameter
turned to [outputs, inputs]:

* LoRA: ``ΔW = s·B·A`` with ``s = lora_alpha / r``; rsLoRA: ``s = lora_alpha / √r``.
* DoRA: ``W + ΔW = m · V / ‖V‖`` with ``V = W + s·B·A`` and the norm taken over the inputs.
* An embedding [vocabulary, width] counts as outputs = width, inputs = vocabulary.

Only this module of the package needs torch; it is imported where something is calculated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import torch

from taia.checkpoint.header import Entry
from taia.checkpoint.sources import Sources
from taia.checkpoint.steps import Blend, Convert, Run, Runs, cut, elements, runs_of
from taia.errors import AdapterError
from taia.selection.alpha import Alpha, Pieces

_DTYPES: Final = {
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
#: Elements calculated at once: some megabytes in float32.
CHUNK = 1 << 20


# --- tensors in files ---------------------------------------------------------------------------


def read(runs: Runs, sources: Sources) -> torch.Tensor:
    """The elements of runs, in one dimension; widened where their dtypes differ."""
    parts = [_read_run(run, sources) for run in runs]
    if len(parts) == 1:
        return parts[0]
    widest = max((part.dtype for part in parts), key=lambda dtype: dtype.itemsize)
    if len({part.dtype for part in parts}) > 1 and widest.itemsize < 4:
        widest = torch.float32  # neither of float16 and bfloat16 holds the other
    return torch.cat([part.to(widest) for part in parts])


def load(entry: Entry, sources: Sources | None = None) -> torch.Tensor:
    """One tensor from its file, in its own shape and dtype.

    Raises:
        AdapterError: If its dtype is not one to calculate with.
        CheckpointError: If the file has become shorter than its header says.
    """
    if entry.dtype not in _DTYPES:
        raise AdapterError(
            f"tensor {entry.name!r} in {entry.file} is {entry.dtype}, which taia does not "
            "calculate with",
            "select it whole or not at all, or save it as BF16, F16 or F32",
        )
    if sources is None:
        with Sources() as own:
            return load(entry, own)
    if entry.nbytes == 0:
        return torch.empty(entry.shape, dtype=_DTYPES[entry.dtype])
    return read(runs_of(entry, "base"), sources).reshape(entry.shape)


def dump(tensor: torch.Tensor, dtype: torch.dtype | None = None) -> memoryview:
    """A tensor's bytes as safetensors stores them, rounded to a dtype if one is given."""
    if not tensor.numel():
        return memoryview(b"")
    dtype = dtype or tensor.dtype
    out = bytearray(tensor.numel() * dtype.itemsize)
    torch.frombuffer(out, dtype=dtype).view(tensor.shape).copy_(tensor.detach())
    return memoryview(out)


def converted(step: Convert, sources: Sources) -> Iterator[memoryview]:
    """A run's elements rounded to another dtype, chunk by chunk."""
    for start in range(0, step.run.elements, CHUNK):
        stop = min(start + CHUNK, step.run.elements)
        yield dump(read((step.run.cut(start, stop),), sources), _DTYPES[step.dtype])


def blended(step: Blend, sources: Sources) -> Iterator[memoryview]:
    """The sum base + α·(tuned − base), chunk by chunk."""
    total = elements(step.base)
    rows = max(1, CHUNK // step.period)
    alpha, dtype = Pieces(1, step.pieces), _DTYPES[step.dtype]
    for start in range(0, total, rows * step.period):
        stop = min(start + rows * step.period, total)
        base, tuned = (
            read(cut(side, start, stop), sources).view(-1, step.period)
            for side in (step.base, step.tuned)
        )
        yield dump(mix(base, tuned, alpha, dtype))


def _read_run(run: Run, sources: Sources) -> torch.Tensor:
    buffer = bytearray(run.stop - run.start)
    sources.read_into(run, 0, memoryview(buffer))
    return torch.frombuffer(buffer, dtype=_DTYPES[run.dtype])


# --- between base and tuned ---------------------------------------------------------------------


def wide(*dtypes: torch.dtype) -> torch.dtype:
    """What is calculated in: float32, or float64 where that is among the dtypes."""
    return torch.float64 if torch.float64 in dtypes else torch.float32


def mix(
    base: torch.Tensor, tuned: torch.Tensor, alpha: Alpha, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """``base + α·(tuned − base)``, rounded once.

    Where α is 0 or 1 the values are the base's or the tuned model's own, not calculated.

    Args:
        base: Any shape.
        tuned: The same shape.
        alpha: A number, or pieces along an axis.
        dtype: Of the result; the tuned tensor's, unless told.
    """
    dtype = dtype or tuned.dtype
    if isinstance(alpha, Pieces):
        out = torch.empty(tuned.shape, dtype=dtype, device=tuned.device)
        for start, stop, part in alpha.pieces:
            ours, theirs, piece = (
                tensor.narrow(alpha.axis, start, stop - start) for tensor in (base, tuned, out)
            )
            piece.copy_(mix(ours, theirs, part, dtype))
        return out
    if alpha in (0.0, 1.0):
        return (tuned if alpha else base).to(dtype)
    width = wide(base.dtype, tuned.dtype)
    anchor = base.to(width)
    return torch.sub(tuned.to(width), anchor).mul_(alpha).add_(anchor).to(dtype)


# --- low-rank updates ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LowRank:
    """A low-rank update, on or for one tensor.

    Attributes:
        a: [r, inputs].
        b: [outputs, r].
        scaling: What B·A is multiplied with.
        magnitude: [outputs] for DoRA, else ``None``.
        inputs_first: Whether the tensor is stored [inputs, outputs].
    """

    a: torch.Tensor
    b: torch.Tensor
    scaling: float
    magnitude: torch.Tensor | None = None
    inputs_first: bool = False

    def tuned(self, weight: torch.Tensor) -> torch.Tensor:
        """The tensor with the whole update; in and out [.., ..] as stored."""
        turned = weight.T if self.inputs_first else weight
        width = turned.dtype
        tuned = turned + (self.b.to(width) @ self.a.to(width)) * self.scaling
        if self.magnitude is not None:
            norm = torch.linalg.norm(tuned, dim=1)
            tuned = (self.magnitude.to(width).reshape(-1) / norm).reshape(-1, 1) * tuned
        return tuned.T if self.inputs_first else tuned


def factors(
    a: torch.Tensor, b: torch.Tensor, experts: int
) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
    """The factors of every expert, ``(A [r, inputs], B [outputs, r])``; one pair for a matrix.

    Args:
        a: ``lora_A.weight`` [experts·r, inputs], or MoLoRA's [experts, r, inputs].
        b: ``lora_B.weight`` [outputs, r·experts], or MoLoRA's [experts, r, outputs].
        experts: How many experts of the base the update is stacked of.
    """
    if a.dim() == 3:
        return tuple((one, other.T) for one, other in zip(a, b, strict=True))
    return tuple(
        (expert(a, "A", index, experts), expert(b, "B", index, experts)) for index in range(experts)
    )


def expert(stacked: torch.Tensor, side: str, index: int, experts: int) -> torch.Tensor:
    """One expert's factor out of PEFT's stack for a three-dimensional parameter.

    Args:
        stacked: ``lora_A.weight`` [experts·r, inputs] or ``lora_B.weight`` [outputs, r·experts].
        side: ``"A"`` or ``"B"``.
        index: Which expert.
        experts: How many there are.

    Returns:
        [r, inputs] or [outputs, r]. A lies expert by expert, B rank by rank (PEFT's
        ``ParamWrapper.get_delta_weight``).
    """
    if side == "A":
        return stacked.reshape(experts, -1, stacked.shape[-1])[index]
    return stacked.reshape(stacked.shape[0], -1, experts)[:, :, index]


def fold_low_rank(
    tensors: Mapping[str, torch.Tensor],
    alpha: Alpha,
    *,
    stored_inputs_first: bool,
    experts: int,
) -> dict[str, torch.Tensor]:
    """Fold α into a low-rank update, so that B·A becomes α·B·A.

    Args:
        tensors: ``{"a": [r·experts, inputs], "b": [outputs, r·experts], "bias": [outputs]}``,
            ``bias`` only where the update has one.
        alpha: A number, or pieces along an axis of the parameter as it is stored.
        stored_inputs_first: Whether the parameter is ``[…, inputs, outputs]``.
        experts: How many experts are stacked along the parameter's first axis; 1 for a matrix.

    Returns:
        The tensors that change.
    """
    if isinstance(alpha, Pieces):
        axis = alpha.axis - (1 if experts > 1 else 0)
        if axis < 0:
            # PEFT stacks A expert by expert; B interleaves them.
            b = tensors["b"].reshape(tensors["b"].shape[0], -1, experts)
            return {"b": _scaled(b, alpha, 2).reshape(tensors["b"].shape)}
        if (axis == 0) == stored_inputs_first:
            return {"a": _scaled(tensors["a"], alpha, 1)}
    return {key: _scaled(tensors[key], alpha, 0) for key in ("b", "bias") if key in tensors}


def _scaled(tensor: torch.Tensor, alpha: Alpha, axis: int) -> torch.Tensor:
    """``α · tensor``, rounded once; with pieces, each run along ``axis`` by its own."""
    pieces = alpha.pieces if isinstance(alpha, Pieces) else ((0, tensor.shape[axis], alpha),)
    out = tensor.clone()
    for start, stop, part in pieces:
        if part != 1.0:
            run = out.narrow(axis, start, stop - start)
            run.copy_(run.to(wide(tensor.dtype)) * part)
    return out
