"""W = W_base + α·ΔW for one tensor, in float32.

Formulas and orientations are PEFT's (peft 0.21, ``tuners/lora/layer.py``, ``dora.py``), seen with
the parameter turned to [outputs, inputs]:

* LoRA: ``ΔW = s·B·A`` with ``s = lora_alpha / r``; rsLoRA: ``s = lora_alpha / √r``.
* DoRA: ``W + ΔW = m · V / ‖V‖`` with ``V = W + s·B·A`` and the norm taken over the inputs.
* An embedding [vocabulary, width] counts as outputs = width, inputs = vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from taia.selection import Alpha, Pieces

if TYPE_CHECKING:
    import torch


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
        import torch

        turned = weight.T if self.inputs_first else weight
        wide = turned.dtype
        tuned = turned + (self.b.to(wide) @ self.a.to(wide)) * self.scaling
        if self.magnitude is not None:
            norm = torch.linalg.norm(tuned, dim=1)
            tuned = (self.magnitude.to(wide).reshape(-1) / norm).reshape(-1, 1) * tuned
        return tuned.T if self.inputs_first else tuned


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


def mix(base: torch.Tensor, tuned: torch.Tensor, alpha: Alpha) -> torch.Tensor:
    """``base + α·(tuned − base)``; exactly one of them where α is 0 or 1."""
    if not isinstance(alpha, Pieces):
        if alpha in (0.0, 1.0):
            return tuned if alpha else base
        return base + alpha * (tuned - base)
    out = base.clone()
    for start, stop, part in alpha.pieces:
        run = (slice(None),) * alpha.axis + (slice(start, stop),)
        out[run] = mix(base[run], tuned[run], part)
    return out
