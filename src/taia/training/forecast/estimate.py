"""What a run will need, before it runs: bytes for each process, tokens, steps, FLOPs, seconds.

Arithmetic only: nothing is loaded, no device is asked. Weights, gradients and optimiser are exact;
activations are those of a decoder with gated feed-forward blocks and a fused attention kernel, and
are within a few per cent of what autograd keeps. What the allocator and the device's runtime take
besides (often 1 GB and a tenth) is not counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from taia.errors import InputError
from taia.training.forecast.shape import Shape
from taia.training.recipe import Sharding, Technique

#: Bytes of state for each trained parameter: AdamW's two moments, in float32; with a float32 copy
#: of 16-bit weights (ZeRO's K = 12, Rajbhandari et al. 2020, arXiv 1910.02054, §3.1); following
#: 16-bit parameters, as torch's AdamW does; in 8 bits (Dettmers et al. 2022, arXiv 2110.02861).
OPTIMISERS: Final[Mapping[str, float]] = MappingProxyType(
    {"adamw": 8, "adamw_master": 12, "adamw_16bit": 4, "adamw_8bit": 2, "sgd": 0}
)
#: NF4 with double quantisation: 4 bits and 0.127 bits of constants for each weight of a linear
#: layer (Dettmers et al. 2023, arXiv 2305.14314, §3). Head, embedding and norms stay as they are.
NF4_BYTES: Final = (4 + 0.127) / 8
_QUANTISED: Final = {"attention", "mlp", "experts", "router"}


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """How a model is to be trained, as far as memory and time depend on it.

    Attributes:
        technique: Whether the trained parameters are the model's own (``full``) or come beside
            them, and whether the model is quantised (``qlora``).
        batch: Rows of one forward pass, in one process.
        length: Tokens of a row, as padded or packed.
        rows: Rows of training data.
        epochs: How often each is seen.
        accumulation: Forward passes for each optimiser step.
        processes: Processes, one to a device.
        sharding: How they share the work: each with everything (``ddp``), or split.
        checkpointing: Whether a layer's activations are computed again in the backward pass.
        frozen_bytes: Of a parameter that does not train: 2 for bfloat16.
        trained_bytes: Of one that does, and of its gradient: 4 for float32.
        compute_bytes: Of an activation: 2 under bf16 autocast.
        optimiser: A key of ``OPTIMISERS``.
        adapter_dropout: Whether adapters drop some of their inputs: each then keeps its own copy.
        eager_attention: Whether attention's probabilities are kept, as without a fused kernel.
        head_share: Share of the positions that the head is applied to.
    """

    technique: Technique
    batch: int
    length: int
    rows: int
    epochs: float = 1.0
    accumulation: int = 1
    processes: int = 1
    sharding: Sharding = "none"
    checkpointing: bool = False
    frozen_bytes: float = 2
    trained_bytes: float = 4
    compute_bytes: int = 2
    optimiser: str = "adamw"
    adapter_dropout: bool = False
    eager_attention: bool = False
    head_share: float = 1.0


@dataclass(frozen=True, slots=True)
class RunNeeds:
    """What a run will need.

    Attributes:
        weights: Bytes of weights, for each process.
        gradients: Bytes of gradients.
        optimiser: Bytes of the optimiser's state.
        activations: Bytes that the backward pass needs kept, at their peak.
        logits: Bytes of the head's output and its gradient.
        exchange: Bytes of buffers in which processes exchange weights or gradients.
        tokens: Tokens of the whole run, padding included.
        steps: Optimiser steps.
        flops: Floating point operations of the whole run, all processes together.
        seconds: How long it takes; None where no speed was given.
    """

    weights: int
    gradients: int
    optimiser: int
    activations: int
    logits: int
    exchange: int
    tokens: int
    steps: int
    flops: int
    seconds: float | None

    @property
    def total(self) -> int:
        """All bytes of a process: an upper bound, as not every part peaks at once."""
        return (
            self.weights
            + self.gradients
            + self.optimiser
            + self.activations
            + self.logits
            + self.exchange
        )


def estimate(
    parameters: Mapping[str, int],
    trained: Mapping[str, int],
    shape: Shape,
    run: PlannedRun,
    *,
    tokens_per_second: float | None = None,
    flops_per_second: float | None = None,
) -> RunNeeds:
    """Estimate a run.

    Args:
        parameters: The model's parameters per component, a shared one once, without adapters.
        trained: Those that train, per component: for ``full`` a part of ``parameters``, else the
            adapters'.
        shape: The model's sizes.
        run: How it is trained.
        tokens_per_second: Measured speed of all processes together, if known.
        flops_per_second: Else what one device achieves (not its peak: a third to a half of it).

    Raises:
        InputError: If a number makes no sense, or an optimiser is not known.
    """
    _check(parameters, trained, run)
    steps = math.ceil(run.rows * run.epochs / (run.batch * run.accumulation * run.processes))
    tokens = math.ceil(run.rows * run.epochs) * run.length
    flops = round(tokens * flops_per_token(parameters, trained, shape, run))
    seconds = None
    if tokens_per_second:
        seconds = tokens / tokens_per_second
    elif flops_per_second:
        seconds = flops / (flops_per_second * run.processes)
    count, split = sum(trained.values()), run.processes if _splits(run) else 1
    return RunNeeds(
        weights=math.ceil(_weight_bytes(parameters, trained, run) / split),
        gradients=math.ceil(count * run.trained_bytes / split),
        optimiser=math.ceil(count * OPTIMISERS[run.optimiser] / split),
        activations=activation_bytes(shape, run),
        logits=_logit_bytes(shape, run),
        exchange=math.ceil(_exchange_bytes(parameters, trained, shape, run)),
        tokens=tokens,
        steps=steps,
        flops=flops,
        seconds=seconds,
    )


def activation_bytes(shape: Shape, run: PlannedRun) -> int:
    """Bytes that autograd keeps for the backward pass, the head's output left out.

    For each token of a layer of width h, inner width i and heads of total width q, with c bytes an
    activation: each of two RMS norms keeps its input in float32, its output and, if its own weight
    trains, the normed input (4h + 2hc); attention its queries, keys and values, the latter two
    repeated for each head, and its output (4qc) and a float32 for each head; the feed-forward block
    the outputs of gate, activation and up, and their product (4ic). The counting is that of
    Korthikanti et al. 2022 (arXiv 2205.05198, §4.1), whose 34h + 5as is for LayerNorm, GELU,
    dropout and attention that keeps its probabilities. Those (``eager_attention``) take 4 bytes for
    each head and token attended to, and c more if they are cast. Adapters that drop inputs keep for
    each linear a mask of bytes and a copy (c + 1), in place of what the norms and the product gave.
    Attention's mask is not counted: it is shared, or there is none.

    With checkpointing a layer keeps its input alone (§5 there), and one layer at a time is whole.
    """
    c, h, i, q = run.compute_bytes, shape.hidden, shape.intermediate, shape.queries
    norm = 4 * h + h * c * (2 if run.technique == "full" else 1)
    layer = 2 * norm + 4 * q * c + 4 * shape.heads + 4 * i * c
    if run.eager_attention:
        layer += shape.heads * (run.length * (4 + c if c < 4 else 4) - 4)
    if run.technique != "full" and run.adapter_dropout:
        inputs = sum(width for matrices in shape.linears.values() for width, _ in matrices)
        # A fused kernel keeps its output itself.
        spared = 2 * h + i + (q if run.eager_attention else 0)
        layer += inputs * (c + 1) - spared * c
    tokens = run.batch * run.length
    if run.checkpointing:
        return tokens * (shape.layers * h * c + layer + norm)
    return tokens * (shape.layers * layer + norm)


def flops_per_token(
    parameters: Mapping[str, int], trained: Mapping[str, int], shape: Shape, run: PlannedRun
) -> float:
    """Floating point operations of forward and backward pass for a token.

    A matrix of n parameters takes 2n forward, 2n for the gradient of its input and, only if it
    trains, 2n for its own: 6N for full fine-tuning (Kaplan et al. 2020, arXiv 2001.08361, §2.1),
    4N + 6n for n parameters of adapters beside N frozen ones. Attention's products add 12 q s for
    each layer, of width q over s tokens (Chowdhery et al. 2022, arXiv 2204.02311, appendix B).
    Checkpointing runs the forward pass twice. Looking up embeddings takes none.
    """
    looked_up = {"embedding"} if "head" in parameters else set()
    through = sum(count for name, count in parameters.items() if name not in looked_up)
    own = sum(count for name, count in trained.items() if name not in looked_up)
    if run.technique != "full":
        through += sum(trained.values())
    attention = 4 * shape.layers * shape.queries * run.length
    forward = 2 * through + attention
    return forward * (2 if run.checkpointing else 1) + 2 * through + 2 * attention + 2 * own


def _check(parameters: Mapping[str, int], trained: Mapping[str, int], run: PlannedRun) -> None:
    whole = ("batch", "length", "rows", "accumulation", "processes")
    wrong = [name for name in whole if getattr(run, name) < 1]
    if wrong or run.epochs <= 0:
        name = wrong[0] if wrong else "epochs"
        raise InputError(f"{name} is {getattr(run, name)}.", "Give a number above 0.")
    if run.optimiser not in OPTIMISERS:
        raise InputError(
            f"How much the optimiser {run.optimiser!r} keeps is not known.",
            f"Use one of {', '.join(OPTIMISERS)}.",
        )
    if run.technique == "full":
        for name, count in trained.items():
            if count > parameters.get(name, 0):
                raise InputError(
                    f"{count:,} parameters of {name} train, and the model has "
                    f"{parameters.get(name, 0):,}.",
                    "Adapters are another technique than full.",
                )


def _splits(run: PlannedRun) -> bool:
    return run.sharding in ("fsdp", "zero3") and run.processes > 1


def _weight_bytes(
    parameters: Mapping[str, int], trained: Mapping[str, int], run: PlannedRun
) -> float:
    count = sum(trained.values())
    if run.technique == "full":
        frozen = sum(parameters.values()) - count
        kept = count * run.trained_bytes + frozen * run.frozen_bytes
        # Autocast keeps the trained weights' casts from the forward pass to the backward one.
        cast = run.compute_bytes < run.trained_bytes and not _splits(run)
        return kept + (count * run.compute_bytes if cast else 0)
    quantised = run.technique == "qlora"
    base = sum(
        number * (NF4_BYTES if quantised and name in _QUANTISED else run.frozen_bytes)
        for name, number in parameters.items()
    )
    return base + count * run.trained_bytes


def _logit_bytes(shape: Shape, run: PlannedRun) -> int:
    """The logits and their gradient as computed, and both in float32 for the loss."""
    each = 2 * run.compute_bytes + 8 if run.compute_bytes < 4 else 12
    return math.ceil(run.batch * run.length * run.head_share) * shape.vocabulary * each


def _exchange_bytes(
    parameters: Mapping[str, int], trained: Mapping[str, int], shape: Shape, run: PlannedRun
) -> float:
    """DDP's buckets, as large as the gradients; or two layers gathered, and the head."""
    if run.processes == 1 or run.sharding == "none":
        return 0
    if run.sharding == "ddp":
        return sum(trained.values()) * run.trained_bytes
    layer = sum(parameters.get(name, 0) for name in _QUANTISED) / shape.layers
    head = parameters.get("head", parameters.get("embedding", 0))
    size = NF4_BYTES if run.technique == "qlora" else run.compute_bytes
    return 2 * layer * size + head * run.compute_bytes
