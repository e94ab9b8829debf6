"""MoLoRA on a whole model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn

import torch
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils.other import get_pattern_key, match_target_against_key
from torch import nn
from transformers.pytorch_utils import Conv1D

from taia.anatomy import Anatomy, TensorInfo
from taia.errors import AdapterError
from taia.molora.balance import Balance
from taia.molora.config import MoloraConfig
from taia.molora.layer import MoloraLinear, cannot_merge

#: Components whose linear layers get experts unless ``expert_modules`` says otherwise.
_EXPERTS_ON = frozenset({"mlp", "experts", "shared_experts"})


class MoloraModel(BaseTuner):
    """A model whose linear layers have MoLoRA adapters. ``peft.get_peft_model`` makes it.

    Raises:
        AdapterError: If a targeted module is not linear, or none of them gets experts.
    """

    prefix = "lora_"
    tuner_layer_cls = MoloraLinear
    peft_config: dict[str, MoloraConfig]  # type: ignore[assignment]
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012 - as the parent has it

    def forward(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """The base model's forward pass.

        In training, the load-balancing loss is added to the output's ``loss`` where it has one and
        ``router_aux_loss_coef`` is not 0; else :meth:`router_aux_loss` gives it. Padding, by a
        two-dimensional ``attention_mask`` given by name, does not count.
        """
        if not (self.training and torch.is_grad_enabled()):
            return self.model(*args, **kwargs)
        with self._balance.collecting(kwargs.get("attention_mask")):
            output = self.model(*args, **kwargs)
        coef = self.router_aux_loss_coef
        if coef and self._balance and getattr(output, "loss", None) is not None:
            output["loss"] = output.loss + coef * self._balance.take().to(output.loss)
        return output

    @property
    def router_aux_loss_coef(self) -> float:
        """The largest weight that an active adapter gives the load-balancing loss."""
        configs = (self.peft_config[name] for name in self.active_adapters)
        return max((config.router_aux_loss_coef for config in configs), default=0.0)

    def router_aux_loss(self) -> torch.Tensor:
        """The load-balancing loss of the last forward pass, the mean over layers, unweighted.

        Each pass's can be had once, and is forgotten by the next. Where the model has added it to
        its own loss there is none left.

        Returns:
            A scalar with a gradient.

        Raises:
            AdapterError: If there is none.
        """
        return self._balance.take()

    def _pre_injection_hook(  # type: ignore[override]
        self, model: nn.Module, config: MoloraConfig, adapter_name: str
    ) -> None:
        self._balance = Balance()

    def inject_adapter(
        self,
        model: nn.Module,
        adapter_name: str,
        *args: Any,  # noqa: ANN401 - as the parent has it
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Puts an adapter on the model, and writes into its config where experts are.

        Raises:
            AdapterError: If a targeted module is not linear, or none of them gets experts.
        """
        super().inject_adapter(model, adapter_name, *args, **kwargs)
        layers = {n: m for n, m in model.named_modules() if isinstance(m, MoloraLinear)}
        routed = {name for name, layer in layers.items() if adapter_name in layer.lora_router}
        if not routed:
            raise AdapterError(
                "none of the adapted modules gets a router and experts",
                "name some in expert_modules, or train a plain LoRA",
            )
        config = self.peft_config[adapter_name]
        if config.expert_modules is None:
            adapted = {name for name, layer in layers.items() if adapter_name in layer.scaling}
            config.expert_modules = _shortest(routed, adapted - routed)

    def _create_and_replace(  # type: ignore[override]
        self,
        peft_config: MoloraConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        layer = target
        if not isinstance(layer, MoloraLinear):
            linear = isinstance(target, (nn.Linear, Conv1D)) or hasattr(target, "in_features")
            if not linear or isinstance(target, BaseTunerLayer):
                raise AdapterError(
                    f"{current_key} is a {type(target).__name__}; MoLoRA adapts linear layers",
                    "leave it out of target_modules",
                )
            layer = MoloraLinear(target, adapter_name, self._balance)
        rank_key = get_pattern_key([*peft_config.rank_pattern], current_key)
        alpha_key = get_pattern_key([*peft_config.alpha_pattern], current_key)
        layer.update_layer(
            adapter_name,
            peft_config,
            r=peft_config.rank_pattern.get(rank_key, peft_config.r),
            lora_alpha=peft_config.alpha_pattern.get(alpha_key, peft_config.lora_alpha),
            routed=_is_routed(peft_config, current_key),
        )
        if layer is not target:
            if adapter_name not in self.active_adapters:
                layer.requires_grad_(False)
            self._replace_module(parent, target_name, layer, target)

    def _check_merge_allowed(self) -> NoReturn:
        raise cannot_merge()

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:  # noqa: ANN401
        """Hands ``adapter_names``, which PEFT takes out of the inputs, to each layer."""
        names = kwargs.get("adapter_names")
        if names is None:
            yield
            return
        if self.training:
            raise AdapterError(
                "adapter_names is for inference, and the model is in training mode",
                "call model.eval() first",
            )
        unknown = set(names) - set(self.peft_config) - {"__base__"}
        if unknown:
            raise AdapterError(
                f"adapter_names has {', '.join(sorted(unknown))}, which the model does not have",
                f"it has: {', '.join(self.peft_config)}, and __base__ for none",
            )
        hook: Callable[..., Any] = partial(_with_names, names=list(names))
        handles = [
            module.register_forward_pre_hook(hook, with_kwargs=True)
            for module in self.modules()
            if isinstance(module, MoloraLinear)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _with_names(
    layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, names: list[str]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, {**kwargs, "adapter_names": names}


def _is_routed(config: MoloraConfig, module: str) -> bool:
    """Whether a module gets a router and experts."""
    wanted = config.expert_modules
    if wanted is None:
        weight = f"{module}.weight"
        return Anatomy.of_tensors([TensorInfo(weight)])[weight].component in _EXPERTS_ON
    if isinstance(wanted, str):
        return bool(match_target_against_key(wanted, module))
    return any(f".{module}".endswith(f".{ending}") for ending in wanted)


def _shortest(modules: set[str], others: set[str]) -> set[str]:
    """The last parts of modules' paths where no other module has the same, else the paths."""
    taken = {name.rpartition(".")[2] for name in others}
    return {
        name if name.rpartition(".")[2] in taken else name.rpartition(".")[2] for name in modules
    }
