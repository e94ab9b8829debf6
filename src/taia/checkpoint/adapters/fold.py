"""α folded into an adapter's tensors, in float32. The only part of filtering that needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from taia.checkpoint.header import Entry
from taia.errors import AdapterError
from taia.selection import Alpha, Pieces

if TYPE_CHECKING:
    import torch

_DTYPES: Final = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
}


def load(entry: Entry) -> torch.Tensor:
    """One tensor from its file, in its own dtype.

    Raises:
        AdapterError: If its dtype is not one to calculate with.
    """
    import torch

    if entry.dtype not in _DTYPES:
        raise AdapterError(
            f"tensor {entry.name!r} in {entry.file} is {entry.dtype}, which taia does not "
            "calculate with",
            "select it whole or not at all, or save it as BF16, F16 or F32",
        )
    dtype = getattr(torch, _DTYPES[entry.dtype])
    if entry.nbytes == 0:
        return torch.empty(entry.shape, dtype=dtype)
    with entry.file.open("rb") as stream:
        stream.seek(entry.start)
        data = bytearray(stream.read(entry.nbytes))
    return torch.frombuffer(data, dtype=dtype).reshape(entry.shape)


def dump(tensor: torch.Tensor) -> bytes:
    """A tensor's bytes as safetensors stores them."""
    import torch

    flat = tensor.detach().contiguous().reshape(-1)
    return bytes(flat.view(torch.uint8).numpy()) if flat.numel() else b""


def scaled(tensor: torch.Tensor, alpha: Alpha, axis: int) -> torch.Tensor:
    """``alpha · tensor`` in float32, cast back; with pieces, each run along ``axis`` by its own."""
    import torch

    wide = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    if not isinstance(alpha, Pieces):
        return (tensor.to(wide) * alpha).to(tensor.dtype)
    out = tensor.clone()
    for start, stop, part in alpha.pieces:
        run = (slice(None),) * axis + (slice(start, stop),)
        if part != 1.0:
            out[run] = (tensor[run].to(wide) * part).to(tensor.dtype)
    return out


def blended(base: torch.Tensor, tuned: torch.Tensor, alpha: Alpha) -> torch.Tensor:
    """``base + alpha · (tuned − base)`` in float32, cast to the tuned tensor's dtype.

    Where α is 0 or 1 the values are the base's and the tuned's own, not calculated.
    """
    import torch

    pieces = ((0, tuned.shape[0], alpha),) if not isinstance(alpha, Pieces) else alpha.pieces
    axis = alpha.axis if isinstance(alpha, Pieces) else 0
    wide = torch.float64 if tuned.dtype == torch.float64 else torch.float32
    out = tuned.clone()
    for start, stop, part in pieces:
        run = (slice(None),) * axis + (slice(start, stop),)
        if part == 0.0:
            out[run] = base[run].to(tuned.dtype)
        elif part != 1.0:
            b, t = base[run].to(wide), tuned[run].to(wide)
            out[run] = (b + part * (t - b)).to(tuned.dtype)
    return out


def fold_low_rank(
    tensors: Mapping[str, torch.Tensor],
    alpha: Alpha,
    *,
    stored_inputs_first: bool,
    experts: int,
) -> dict[str, torch.Tensor]:
    """Folds α into a low-rank update, so that B·A becomes α·B·A.

    Args:
        tensors: ``{"a": [r·experts, inputs], "b": [outputs, r·experts], "bias": [outputs]}``,
            ``bias`` only where the update has one.
        alpha: A number, or pieces along an axis of the parameter as it is stored.
        stored_inputs_first: Whether the parameter is ``[…, inputs, outputs]``.
        experts: How many experts are stacked along the parameter's first axis; 1 for a matrix.

    Returns:
        The tensors that change.
    """
    if not isinstance(alpha, Pieces):
        changed = {"b": scaled(tensors["b"], alpha, 0)}
        if "bias" in tensors:
            changed["bias"] = scaled(tensors["bias"], alpha, 0)
        return changed
    axis = alpha.axis - (1 if experts > 1 else 0)
    if axis < 0:
        # PEFT stacks A expert by expert; B interleaves them.
        b = tensors["b"].reshape(tensors["b"].shape[0], -1, experts)
        return {"b": scaled(b, alpha, 2).reshape(tensors["b"].shape)}
    if (axis == 0) == stored_inputs_first:
        return {"a": scaled(tensors["a"], alpha, 1)}
    changed = {"b": scaled(tensors["b"], alpha, 0)}
    if "bias" in tensors:
        changed["bias"] = scaled(tensors["bias"], alpha, 0)
    return changed
