"""How fast is MoLoRA, forward and backward?

Two pieces of a Llama, frozen, with adapters that train: one linear of the FFN (hidden →
intermediate), and a whole FFN (gate, up, down). Four contenders on the same base weights, inputs
and sizes, in turns, and the base alone for comparison:

- ``molora``: taia's layer, all experts in two matrix products;
- ``loop``: the authors' way in training (``molora_helper2`` in their ``taia/model/utils.py``),
  written anew: a loop sends every token through every expert's LoRA, and of the stacked results
  the chosen experts' are taken;
- ``gather``: their way at inference: for each expert, the tokens that chose it are gathered, sent
  through its LoRA, and added back;
- ``lora``: PEFT's plain LoRA of equal active rank (top_k · r), which no router can beat.

Each turn times every contender once, forward and backward to the input and to its own parameters;
the ratios are of medians. Targets are of the whole, base included; ``adapter alone`` is what is
left when the base's time is taken off. ``molora`` and both loops are checked to agree before.

    OMP_NUM_THREADS=1 python benchmarks/molora.py --experts 8 --top-k 1 --tokens 2048

With more threads than idle cores the loops' many small steps wait for each other, and they look
worse than they are.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn import functional as F  # noqa: N812 - as everybody calls it

from taia.molora import MoloraConfig, MoloraLinear

#: Throughput against the loop at 8 experts, and time against plain LoRA.
TARGETS: Final = {"loop": 3.0, "lora": 1.5}

#: (hidden, intermediate): SmolLM2-135M's, and with --wide an 8B Llama's.
_SIZES: Final = ((576, 1536),)
_WIDE: Final = (4096, 14336)

_DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class FeedForward(nn.Module):
    """Llama's FFN."""

    def __init__(self, hidden: int, intermediate: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden, intermediate, bias=False)
        self.up_proj = nn.Linear(hidden, intermediate, bias=False)
        self.down_proj = nn.Linear(intermediate, hidden, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[tokens, hidden]`` → the same."""
        found: torch.Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return found


class OneLinear(nn.Module):
    """Its first linear, alone."""

    def __init__(self, hidden: int, intermediate: int) -> None:
        super().__init__()
        self.up_proj = nn.Linear(hidden, intermediate, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[tokens, hidden]`` → ``[tokens, intermediate]``."""
        found: torch.Tensor = self.up_proj(x)
        return found


class Loop(nn.Module):
    """MoLoRA with a loop over experts; parameters and routing as in the layer it is made from."""

    def __init__(self, layer: MoloraLinear) -> None:
        super().__init__()
        self.base_layer: Any = layer.base_layer
        self.top_k = layer.top_k["default"]
        self.scaling = layer.expert_scaling["default"]
        router: Any = layer.lora_router["default"]
        self.router = nn.Parameter(router.weight.detach().clone())
        experts: Any = layer.lora_experts["default"]
        self.experts = nn.ModuleList()
        for a, b in zip(experts.A, experts.B, strict=True):
            down = nn.Linear(a.shape[1], a.shape[0], bias=False, device=a.device, dtype=a.dtype)
            up = nn.Linear(b.shape[0], b.shape[1], bias=False, device=b.device, dtype=b.dtype)
            down.weight.data.copy_(a)
            up.weight.data.copy_(b.T)
            self.experts.append(nn.Sequential(down, up))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[tokens, d_in]`` → ``[tokens, d_out]``."""
        result: torch.Tensor = self.base_layer(x)
        weights, chosen = self.route(x)
        return result + self.updates(x, weights, chosen)

    def route(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Gates and numbers of the chosen experts, ``[tokens, top_k]`` each."""
        probabilities = F.linear(x, self.router).softmax(dim=-1, dtype=torch.float32)
        weights, chosen = probabilities.topk(self.top_k, dim=-1)
        if self.top_k > 1:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        return weights.to(x.dtype), chosen

    def updates(self, x: torch.Tensor, weights: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """Every expert on every token, ``[tokens, experts, d_out]``; then the chosen ones' sum."""
        every = torch.stack([expert(x) * self.scaling for expert in self.experts], dim=1)
        index = chosen.unsqueeze(-1).expand(-1, -1, every.shape[-1])
        return torch.einsum("tk,tkd->td", weights, every.gather(1, index))


class Gather(Loop):
    """The loop that sends each expert its own tokens only."""

    def updates(self, x: torch.Tensor, weights: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """Each expert's tokens, gathered and added back."""
        found = x.new_zeros(x.shape[0], self.base_layer.out_features)
        for number, expert in enumerate(self.experts):
            tokens, slots = torch.where(chosen == number)
            update = expert(x[tokens]) * self.scaling * weights[tokens, slots, None]
            found.index_add_(0, tokens, update.to(found.dtype))
        return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 1 when a target is missed."""
    options = _options(arguments)
    torch.manual_seed(0)
    sizes = [_WIDE] if options.wide else _SIZES
    results = [
        _measure(options, options.device, dtype, piece, size)
        for dtype in options.dtype
        for size in sizes
        for piece in (OneLinear, FeedForward)
    ]
    if options.json:
        print(json.dumps({"machine": _machine(), "targets": TARGETS, "results": results}, indent=2))
    else:
        for result in results:
            _print(result)
    missed = [result for result in results if not result["met"]]
    return 1 if missed else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tokens", type=int, default=2048, help="tokens in the batch")
    parser.add_argument("--experts", type=int, default=8)
    parser.add_argument("--top-k", type=int, default=1)
    parser.add_argument("--rank", type=int, default=16, help="rank of each expert")
    parser.add_argument("--turns", type=int, default=15, help="how often each contender is timed")
    parser.add_argument("--dtype", nargs="+", choices=[*_DTYPES], default=["float32"])
    parser.add_argument("--wide", action="store_true", help="the widths of an 8B Llama")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser.parse_args(arguments)


def _measure(
    options: argparse.Namespace,
    device: str,
    dtype: str,
    piece: Callable[[int, int], nn.Module],
    size: tuple[int, int],
) -> dict[str, Any]:
    contenders = _contenders(options, piece, size)
    x = torch.randn(options.tokens, size[0], device=device, dtype=_DTYPES[dtype])
    for model in contenders.values():
        model.to(device=device, dtype=_DTYPES[dtype])
    _check_alike(contenders, x)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(options.turns + 2):
        for name, model in contenders.items():
            spent = _step(model, x, device)
            if turn >= 2:  # the first are warm-up
                seconds[name].append(spent)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    over_loop = medians["loop"] / medians["molora"]
    over_gather = medians["gather"] / medians["molora"]
    over_lora = medians["molora"] / medians["lora"]
    adapters = {name: medians[name] - medians["base"] for name in ("molora", "loop", "lora")}
    return {
        "device": device if device == "cpu" else torch.cuda.get_device_name(),
        "dtype": dtype,
        "piece": piece.__name__,
        "hidden": size[0],
        "intermediate": size[1],
        "tokens": options.tokens,
        "experts": options.experts,
        "top_k": options.top_k,
        "rank": options.rank,
        "milliseconds": {name: round(1000 * value, 3) for name, value in medians.items()},
        "spread": {
            name: [round(1000 * f(t), 3) for f in (min, max)] for name, t in seconds.items()
        },
        "loop_over_molora": round(over_loop, 3),
        "gather_over_molora": round(over_gather, 3),
        "molora_over_lora": round(over_lora, 3),
        "adapter_alone_loop_over_molora": round(adapters["loop"] / adapters["molora"], 3),
        "met": over_loop >= TARGETS["loop"] and over_lora <= TARGETS["lora"],
    }


def _contenders(
    options: argparse.Namespace, piece: Callable[[int, int], nn.Module], size: tuple[int, int]
) -> dict[str, nn.Module]:
    plain = piece(*size)
    names = [name for name, _ in plain.named_children()]
    config = MoloraConfig(
        r=options.rank,
        num_experts=options.experts,
        top_k=options.top_k,
        expert_modules=names,
        target_modules=names,
        lora_alpha=32,
        init_lora_weights=False,
    )
    molora: Any = get_peft_model(_copy(plain, piece, size), config).base_model.model
    loop, gather = _copy(plain, piece, size), _copy(plain, piece, size)
    for name in names:
        setattr(loop, name, Loop(getattr(molora, name)))
        setattr(gather, name, Gather(getattr(molora, name)))
    equal = LoraConfig(
        r=options.rank * options.top_k,
        target_modules=names,
        lora_alpha=32,
        init_lora_weights=False,
    )
    lora: Any = get_peft_model(_copy(plain, piece, size), equal).base_model.model
    plain.requires_grad_(False)
    return {"molora": molora, "loop": loop, "gather": gather, "lora": lora, "base": plain}


def _copy(
    plain: nn.Module, piece: Callable[[int, int], nn.Module], size: tuple[int, int]
) -> nn.Module:
    other = piece(*size)
    other.load_state_dict(plain.state_dict())
    return other.requires_grad_(False)


@torch.no_grad()
def _check_alike(contenders: dict[str, nn.Module], x: torch.Tensor) -> None:
    ours = contenders["molora"](x).float()
    for name in ("loop", "gather"):
        theirs = contenders[name](x).float()
        error = ((ours - theirs).norm() / theirs.norm()).item()
        if error > (1e-5 if x.dtype == torch.float32 else 2e-2):
            raise SystemExit(f"molora and {name} differ by {error:.1e}")


def _step(model: nn.Module, x: torch.Tensor, device: str) -> float:
    x = x.detach().requires_grad_()
    for parameter in model.parameters():
        parameter.grad = None
    if device != "cpu":
        torch.cuda.synchronize()
    start = time.perf_counter()
    out = model(x)
    out.backward(torch.ones_like(out))
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _machine() -> dict[str, Any]:
    return {
        "torch": torch.__version__,
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _print(result: dict[str, Any]) -> None:
    times = "  ".join(f"{name} {value:8.2f} ms" for name, value in result["milliseconds"].items())
    print(
        f"{result['device']} {result['dtype']} {result['piece']} "
        f"{result['hidden']} → {result['intermediate']}, {result['tokens']} tokens, "
        f"{result['experts']} experts, top {result['top_k']}, rank {result['rank']}"
    )
    print(f"  {times}")
    print(
        f"  {result['loop_over_molora']:.2f} × the loop (target {TARGETS['loop']:g}), "
        f"{result['gather_over_molora']:.2f} × the gathering one, "
        f"{result['molora_over_lora']:.2f} of LoRA's time (target {TARGETS['lora']:g})"
        f"  {'met' if result['met'] else 'MISSED'}; adapter alone: "
        f"{result['adapter_alone_loop_over_molora']:.2f} × the loop"
    )


if __name__ == "__main__":
    raise SystemExit(main())
