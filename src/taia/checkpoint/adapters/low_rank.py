"""ΔW = s·B·A: low-rank updates applied to weights, and fractions of them folded into factors.

Formulas and orientations are PEFT's (peft 0.21, ``tuners/lora/layer.py``, ``dora.py``), seen with
the parameter turned to [outputs, inputs]:

* LoRA: ``ΔW = s·B·A`` with ``s = lora_alpha / r``; rsLoRA: ``s = lora_alpha / √r``.
* DoRA: ``W + ΔW = m · V / ‖V‖`` with ``V = W + s·B·A`` and the norm taken over the inputs.
* An embedding [vocabulary, width] counts as outputs = width, inputs = vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from taia.methods.given import Array
from taia.selection.alpha import Alpha, Pieces


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

    a: Array
    b: Array
    scaling: float
    magnitude: Array | None = None
    inputs_first: bool = False

    @property
    def by_rows(self) -> bool:
        """Whether each row of the tensor as stored depends on that row alone."""
        return self.magnitude is None or not self.inputs_first

    def rows(self, first: int, last: int) -> LowRank:
        """The update of some of the stored tensor's rows, where it is :attr:`by_rows`."""
        assert self.by_rows
        if self.inputs_first:
            return replace(self, a=self.a[:, first:last])
        norms = self.magnitude if self.magnitude is None else self.magnitude[first:last]
        return replace(self, b=self.b[first:last], magnitude=norms)

    def tuned(self, weight: Array, out: Array | None = None) -> Array:
        """The tensor with the whole update; in and out [.., ..] as stored.

        Args:
            weight: The tensor.
            out: Where to put the result: contiguous, of the tensor's shape and dtype.
        """
        turned = weight.T if self.inputs_first else weight
        into = out.T if self.inputs_first and out is not None else out
        a, b = (factor.astype(turned.dtype, copy=False) for factor in (self.a, self.b))
        tuned: Array = np.matmul(b * turned.dtype.type(self.scaling), a, out=into)
        tuned += turned
        if self.magnitude is not None:
            norm = np.sqrt(np.einsum("oi,oi->o", tuned, tuned))
            tuned *= (self.magnitude / norm).astype(turned.dtype)[:, None]
        return tuned.T if self.inputs_first else tuned


def factors(a: Array, b: Array, experts: int) -> tuple[tuple[Array, Array], ...]:
    """The factors of every expert, ``(A [r, inputs], B [outputs, r])``; one pair for a matrix.

    Args:
        a: ``lora_A.weight`` [experts·r, inputs], or MoLoRA's [experts, r, inputs].
        b: ``lora_B.weight`` [outputs, r·experts], or MoLoRA's [experts, r, outputs].
        experts: How many experts of the base the update is stacked of.
    """
    if a.ndim == 3:
        return tuple((one, other.T) for one, other in zip(a, b, strict=True))
    return tuple(
        (expert(a, "A", index, experts), expert(b, "B", index, experts)) for index in range(experts)
    )


def expert(stacked: Array, side: str, index: int, experts: int) -> Array:
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
    first, last = stacked.shape
    one: Array = (
        stacked.reshape(experts, first // experts, last)[index]
        if side == "A"
        else stacked.reshape(first, last // experts, experts)[:, :, index]
    )
    return one


def stacked(pairs: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Factors of every expert, ``(A [r, inputs], B [outputs, r])``, stacked as PEFT stacks them.

    Returns:
        ``lora_A.weight`` [experts·r, inputs] and ``lora_B.weight`` [outputs, r·experts].
    """
    b = np.stack([one for _, one in pairs], axis=2)
    return np.concatenate([one for one, _ in pairs]), b.reshape(len(b), -1)


def fold_low_rank(
    tensors: Mapping[str, Array],
    alpha: Alpha,
    *,
    stored_inputs_first: bool,
    experts: int,
) -> dict[str, Array]:
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
    changed = changed_by(alpha, stored_inputs_first=stored_inputs_first, experts=experts)
    if changed == ("a",):
        return {"a": _scaled(tensors["a"], alpha, 1)}
    if isinstance(alpha, Pieces) and experts > 1 and alpha.axis == 0:
        # PEFT stacks A expert by expert; B interleaves them.
        outputs, ranks = tensors["b"].shape
        b = tensors["b"].reshape(outputs, ranks // experts, experts)
        return {"b": _scaled(b, alpha, 2).reshape(outputs, ranks)}
    return {key: _scaled(tensors[key], alpha, 0) for key in changed if key in tensors}


def changed_by(alpha: Alpha, *, stored_inputs_first: bool, experts: int) -> tuple[str, ...]:
    """Which of an update's tensors α is folded into: A where it has pieces of the inputs, else B.

    Arguments are those of :func:`fold_low_rank`, whose keys these are.
    """
    if isinstance(alpha, Pieces):
        axis = alpha.axis - (1 if experts > 1 else 0)
        if axis >= 0 and (axis == 0) == stored_inputs_first:
            return ("a",)
    return ("b", "bias")


def _scaled(values: Array, alpha: Alpha, axis: int) -> Array:
    """``α · values``; with pieces, each run along ``axis`` by its own."""
    pieces = alpha.pieces if isinstance(alpha, Pieces) else ((0, values.shape[axis], alpha),)
    out = values.copy()
    for start, stop, part in pieces:
        out[(slice(None),) * axis + (slice(start, stop),)] *= part
    return out
