"""How a MoLoRA adapter is laid out, as ``adapter_config.json`` has it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, get_args

from peft import PeftConfig

from taia.errors import AdapterError
from taia.molora.routing import Routing

#: The method's name in ``adapter_config.json``.
PEFT_TYPE: Final = "MOLORA"


@dataclass
class MoloraConfig(PeftConfig):
    """A MoLoRA adapter: one LoRA on most linear layers, a router and experts on some.

    On a module with experts (the paper's section 3.2)::

        y = W x + Σ_{i ∈ top k} g_i(x) · scale · B_i A_i x  (+ the shared expert's B A x)

    Attributes:
        r: Rank of each LoRA and of each expert.
        lora_alpha: They count ``lora_alpha / r``; ``lora_alpha / √r`` with ``use_rslora``.
        lora_dropout: Share of a LoRA's inputs dropped in training. The router sees all of them.
        target_modules: Which modules are adapted: endings of their paths, one regular expression,
            or ``"all-linear"``, which leaves out the head.
        exclude_modules: Which are not, in the same terms.
        expert_modules: Which of them get a router and experts: endings of their paths, or one
            regular expression. ``None`` stands for those of the feed-forward block, and is
            replaced by their names once the adapter is on a model.
        num_experts: Experts of each such module.
        top_k: How many of them a token passes through.
        shared_expert: Rank of an expert that every token passes through, in multiples of ``r``; 0
            for none. Its alpha is the same multiple of ``lora_alpha``. MedCare has 8 experts, two
            of them chosen, and a shared one of rank 2r.
        routing: ``"softmax_topk"``: the softmax is over all experts, then the largest are taken,
            and made to sum to 1 where there are several. ``"topk_softmax"``, as the authors' code
            has it: over the chosen ones only. With ``top_k=1`` that is always 1, and the router
            never learns.
        router_aux_loss_coef: Weight of the load-balancing loss that the model adds to its own loss
            in training; 0 for none. A trainer that calculates the loss itself adds
            ``coef · model.router_aux_loss()``.
        use_rslora: Rank-stabilised scale.
        bias: Which biases of the base model are trained: ``"none"``, ``"all"`` or ``"lora_only"``.
        modules_to_save: Modules trained whole and saved with the adapter.
        layers_to_transform: Adapt only these layers.
        layers_pattern: What the stack of layers is called, where PEFT cannot tell.
        rank_pattern: Module (a regular expression for the end of its path) → another ``r``.
        alpha_pattern: Module → another ``lora_alpha``.
        init_lora_weights: ``False`` gives B random values instead of zeros, for tests.

    Raises:
        AdapterError: If a value is not one of those above.
    """

    r: int = 16
    lora_alpha: float = 32
    lora_dropout: float = 0.0
    target_modules: Any = "all-linear"
    exclude_modules: Any = None
    expert_modules: Any = None
    num_experts: int = 4
    top_k: int = 1
    shared_expert: int = 0
    routing: Routing = "softmax_topk"
    router_aux_loss_coef: float = 0.0
    use_rslora: bool = False
    bias: str = "none"
    modules_to_save: list[str] | None = None
    layers_to_transform: Any = None
    layers_pattern: Any = None
    rank_pattern: dict[str, int] = field(default_factory=dict)
    alpha_pattern: dict[str, float] = field(default_factory=dict)
    init_lora_weights: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]
        self.peft_type = PEFT_TYPE
        self.shared_expert = (
            int(self.shared_expert) if self.shared_expert is True else (self.shared_expert or 0)
        )
        for name in ("target_modules", "exclude_modules", "expert_modules"):
            value = getattr(self, name)
            if isinstance(value, (list, tuple)):
                setattr(self, name, set(value))
        for name, fits, wanted in self._rules():
            if not fits:
                raise AdapterError(f"{name}={getattr(self, name)!r} is not {wanted}", _SEE)

    def _rules(self) -> Iterable[tuple[str, bool, str]]:
        """What each value has to be: its name, whether it is, and the words for it."""
        whole, number = "a positive whole number", "a number"
        yield "r", _whole(self.r, 1), whole
        yield "lora_alpha", _number(self.lora_alpha), number
        dropped = _number(self.lora_dropout) and 0 <= self.lora_dropout < 1
        yield "lora_dropout", dropped, "a number from 0 to below 1"
        for name in ("target_modules", "exclude_modules", "expert_modules"):
            yield name, _names(getattr(self, name)), "names of modules or one regular expression"
        yield "target_modules", bool(self.target_modules), "names of modules"
        yield "num_experts", _whole(self.num_experts, 1), whole
        chosen = _whole(self.top_k, 1) and self.top_k <= self.num_experts
        yield "top_k", chosen, f"a whole number from 1 to num_experts ({self.num_experts})"
        yield "shared_expert", _whole(self.shared_expert, 0), "a whole number (a multiple of r)"
        yield "routing", self.routing in get_args(Routing), "one of " + ", ".join(get_args(Routing))
        weight = _number(self.router_aux_loss_coef) and self.router_aux_loss_coef >= 0
        yield "router_aux_loss_coef", weight, "a number that is not negative"
        yield "bias", self.bias in ("none", "all", "lora_only"), "'none', 'all' or 'lora_only'"
        ranks = all(_whole(value, 1) for value in self.rank_pattern.values())
        yield "rank_pattern", ranks, "a table of positive whole numbers"
        alphas = all(_number(value) for value in self.alpha_pattern.values())
        yield "alpha_pattern", alphas, "a table of numbers"
        yield "init_lora_weights", isinstance(self.init_lora_weights, bool), "true or false"


_SEE: Final = "see taia.molora.MoloraConfig for what each setting may be"


def _whole(value: object, least: int) -> bool:
    return type(value) is int and value >= least  # bool is an int to isinstance


def _number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _names(value: object) -> bool:
    if isinstance(value, str):
        try:
            re.compile(value)
        except re.error:
            return False
        return True
    return value is None or (isinstance(value, set) and all(isinstance(v, str) for v in value))
