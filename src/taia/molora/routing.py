"""Which experts a token goes to, and how much each of them counts. Functions of tensors only."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import torch

Routing: TypeAlias = Literal["softmax_topk", "topk_softmax"]


class Routed(NamedTuple):
    """Where tokens go.

    Attributes:
        gates: ``[..., experts]``: how much each expert counts; 0 for those not chosen.
        chosen: ``[..., top_k]``: the chosen experts, the largest gate first.
        probabilities: ``[..., experts]``: the softmax over all experts.
    """

    gates: torch.Tensor
    chosen: torch.Tensor
    probabilities: torch.Tensor


def route(logits: torch.Tensor, top_k: int, routing: Routing) -> Routed:
    """Chooses the ``top_k`` experts with the largest logits.

    Gates are calculated in float32, or in float64 where the logits are.

    Args:
        logits: ``[..., experts]``.
        top_k: How many to choose.
        routing: ``"softmax_topk"`` takes the softmax over all experts and keeps the chosen ones'
            values, divided by their sum for ``top_k > 1`` (Switch Transformer, arXiv 2101.03961,
            and Mixtral). ``"topk_softmax"`` takes it over the chosen ones, as the paper's code
            does: with ``top_k = 1`` the gate is the constant 1.
    """
    wide = torch.promote_types(logits.dtype, torch.float32)
    probabilities = logits.softmax(dim=-1, dtype=wide)
    top, chosen = logits.topk(top_k, dim=-1)
    if routing == "topk_softmax":
        weights = top.softmax(dim=-1, dtype=wide)
    else:
        weights = probabilities.gather(-1, chosen)
        if top_k > 1:
            weights = weights / weights.sum(dim=-1, keepdim=True)
    gates = torch.zeros_like(probabilities).scatter(-1, chosen, weights)
    return Routed(gates, chosen, probabilities)


def load_balancing_loss(routed: Routed, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Switch Transformer's loss (equation 4): ``E · Σ_i f_i · P_i``, a scalar.

    f_i is the share of choices that fell on expert i, P_i the mean probability of it; only the
    latter has a gradient. It is 1 when either is even over the experts, and E when all tokens go to
    one with certainty.

    Args:
        routed: Where tokens went.
        mask: ``[...]``, of the tokens' shape: those that count (1 or true). ``None``: all do.
    """
    experts = routed.probabilities.shape[-1]
    choices = torch.zeros_like(routed.probabilities).scatter(-1, routed.chosen, 1.0)
    probabilities = routed.probabilities.flatten(0, -2)
    choices = choices.flatten(0, -2) / routed.chosen.shape[-1]
    if mask is None:
        return experts * (choices.mean(dim=0) * probabilities.mean(dim=0)).sum()
    counts = mask.flatten().to(probabilities.dtype)
    share, mean = counts @ choices, counts @ probabilities
    return experts * (share * mean).sum() / counts.sum().clamp(min=1) ** 2
