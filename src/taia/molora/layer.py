"""One adapted linear layer: a LoRA, or a router and experts, or both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from peft.tuners.lora import LoraLayer
from torch import nn
from torch.nn import functional as F  # noqa: N812 - as everybody calls it

from taia.errors import AdapterError
from taia.molora.balance import Balance
from taia.molora.config import MoloraConfig
from taia.molora.routing import route


class Experts(nn.Module):
    """Several LoRAs of one linear layer, as two matrices.

    Attributes:
        A: ``[experts, r, d_in]``.
        B: ``[experts, r, d_out]``, transposed to what LoRA has, so that all experts together are
            one matrix in memory.
    """

    def __init__(self, experts: int, r: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.empty(experts, r, inputs))
        self.B = nn.Parameter(torch.empty(experts, r, outputs))

    def forward(self, result: torch.Tensor, x: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
        """``result + Σ_i g_i B_i A_i x``.

        All experts' A are one matrix product, and so are all B. The gates, 0 for experts that were
        not chosen, are multiplied in between, where a token has only experts · r numbers. The sum
        is exact, and no token is moved.

        Args:
            result: ``[..., d_out]``.
            x: ``[..., d_in]``.
            gates: ``[..., experts]``.

        Returns:
            ``[..., d_out]``, in the wider dtype of the two.
        """
        inner = F.linear(x, self.A.flatten(0, 1))
        each = inner.view(*gates.shape, self.A.shape[1]) * gates.to(inner.dtype).unsqueeze(-1)
        each, up = each.flatten(-2), self.B.flatten(0, 1)
        if result.dtype != each.dtype:
            return result + each @ up
        # One pass over the output instead of two.
        rows = torch.addmm(result.reshape(-1, up.shape[1]), each.reshape(-1, up.shape[0]), up)
        return rows.view(result.shape)


class MoloraLinear(nn.Module, LoraLayer):
    """A linear layer with MoLoRA adapters.

    PEFT's ``"all-linear"`` finds it by the *Linear* in its name. What it holds, by the adapter's
    name::

        lora_A, lora_B   the LoRA of a module without experts, or the shared expert
        lora_router      [experts, d_in]
        lora_experts     A and B of all experts
    """

    adapter_layer_names = (
        "lora_A",
        "lora_B",
        "lora_router",
        "lora_experts",
    )
    other_param_names = (
        "r",
        "lora_alpha",
        "scaling",
        "expert_scaling",
        "lora_dropout",
        "top_k",
        "routing",
        "use_rslora",
    )

    in_features: int
    out_features: int

    def __init__(self, base_layer: nn.Module, adapter_name: str, balance: Balance) -> None:
        super().__init__()
        LoraLayer.__init__(self, base_layer)
        self.lora_router = nn.ModuleDict()
        self.lora_experts = nn.ModuleDict()
        self.expert_scaling: dict[str, float] = {}
        self.top_k: dict[str, int] = {}
        self.routing: dict[str, Any] = {}
        self._active_adapter = adapter_name
        self._balance = balance

    def update_layer(  # type: ignore[override]
        self, adapter_name: str, config: MoloraConfig, *, r: int, lora_alpha: float, routed: bool
    ) -> None:
        """Gives the layer an adapter.

        Args:
            adapter_name: Its name.
            config: What it is like.
            r: The rank here.
            lora_alpha: The alpha here.
            routed: Whether it has a router and experts here.
        """
        multiple = config.shared_expert if routed else 1
        self.r[adapter_name] = r
        self.lora_alpha[adapter_name] = lora_alpha
        self.use_rslora[adapter_name] = config.use_rslora
        self.lora_dropout[adapter_name] = (
            nn.Dropout(config.lora_dropout) if config.lora_dropout else nn.Identity()
        )
        self.scaling[adapter_name] = _scale(lora_alpha, r, max(multiple, 1), config.use_rslora)
        if multiple:
            self.lora_A[adapter_name] = nn.Linear(self.in_features, multiple * r, bias=False)
            self.lora_B[adapter_name] = nn.Linear(multiple * r, self.out_features, bias=False)
        if routed:
            self.expert_scaling[adapter_name] = _scale(lora_alpha, r, 1, config.use_rslora)
            self.top_k[adapter_name] = config.top_k
            self.routing[adapter_name] = config.routing
            count = config.num_experts
            self.lora_router[adapter_name] = nn.Linear(self.in_features, count, bias=False)
            self.lora_experts[adapter_name] = Experts(count, r, self.in_features, self.out_features)
        self.reset_parameters(adapter_name, zero=config.init_lora_weights)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    @torch.no_grad()
    def reset_parameters(self, adapter_name: str, *, zero: bool = True) -> None:
        """Gives an adapter its first values. The base layer is not touched.

        A is as LoRA's (uniform, ±1/√d_in), each expert its own; B is zero. The router is as A: its
        logits then vary by about 0.6 times the size of the input, whatever the width. Were it
        zero, all tokens would go to the same experts and the others would stay as they are.

        Args:
            adapter_name: Which.
            zero: Whether B is zero.
        """
        inside = 1 / math.sqrt(self.in_features)
        outside = 0.0 if zero else 1 / math.sqrt(self.r[adapter_name])
        bounds = {"lora_A": inside, "lora_B": outside, "lora_router": inside}
        for name, bound in bounds.items():
            if adapter_name in getattr(self, name):
                nn.init.uniform_(getattr(self, name)[adapter_name].weight, -bound, bound)
        if adapter_name in self.lora_experts:
            experts: Any = self.lora_experts[adapter_name]
            nn.init.uniform_(experts.A, -inside, inside)
            nn.init.uniform_(experts.B, -outside, outside)

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:  # noqa: ANN401
        """The base layer's output and the active adapters' updates.

        Args:
            x: ``[..., d_in]``.
            *args: The base layer's own.
            **kwargs: Likewise; and ``adapter_names``, one for each row of ``x``, where rows go
                through different adapters (``"__base__"``: none).

        Returns:
            ``[..., d_out]``, in the dtype that the base layer gives.
        """
        self._check_forward_args(x, *args, **kwargs)  # type: ignore[no-untyped-call]
        names: Sequence[str] | None = kwargs.pop("adapter_names", None)
        result: torch.Tensor = self.base_layer(x, *args, **kwargs)
        if self.disable_adapters:
            return result
        dtype = result.dtype
        if names is not None:
            result = result.clone()
            for name in set(names) - {"__base__"}:
                rows = [i for i, other in enumerate(names) if other == name]
                result[rows] = self._updated(result[rows], x[rows], name).to(dtype)
            return result
        for name in self.active_adapters:
            result = self._updated(result, x, name)
        return result.to(dtype)

    def _updated(self, result: torch.Tensor, x: torch.Tensor, adapter: str) -> torch.Tensor:
        """``result + update(x)``."""
        if adapter not in self.scaling:
            return result
        routed, plain = adapter in self.lora_experts, adapter in self.lora_A
        some: Any = (self.lora_router if routed else self.lora_A)[adapter]
        x = self._cast_input_dtype(x, some.weight.dtype)
        kept = self.lora_dropout[adapter](x)
        if plain and self.scaling[adapter]:
            update = self.lora_B[adapter](self.lora_A[adapter](kept))
            result = result + update * self.scaling[adapter]
        if routed and self.expert_scaling[adapter]:
            to = route(self.lora_router[adapter](x), self.top_k[adapter], self.routing[adapter])
            self._balance.add(to)
            gates = to.gates * self.expert_scaling[adapter]
            result = self.lora_experts[adapter](result, kept, gates)
        return result

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> NoReturn:
        """RefusedError: which experts a token passes through depends on the token.

        Raises:
            AdapterError: Always.
        """
        raise cannot_merge()

    def unmerge(self) -> None:
        """There is never anything merged."""

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:
        """Whether the update is one matrix, as LoRA's is."""
        return adapter_name not in self.lora_router

    def __repr__(self) -> str:
        return f"molora.{super().__repr__()}"


def cannot_merge() -> AdapterError:
    """Why MoLoRA does not merge."""
    return AdapterError(
        "a MoLoRA adapter cannot be merged: which experts count depends on the token",
        "keep it as an adapter; or drop the experts first with `taia compose --keep taia`",
    )


def _scale(alpha: float, r: int, multiple: int, use_rslora: bool) -> float:
    rank = multiple * r
    return multiple * alpha / (math.sqrt(rank) if use_rslora else rank)
