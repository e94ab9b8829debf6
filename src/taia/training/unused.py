"""Which keys of a recipe do nothing beside its others: told where somebody asks for them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from typing import Final, TypeAlias

from taia.errors import InputError
from taia.training.recipe import Recipe

_Test: TypeAlias = Callable[[Recipe], bool]

_MOLORA: Final[tuple[_Test, str]] = (
    lambda recipe: recipe.technique == "molora",
    "technique molora",
)
_LORA: Final[tuple[_Test, str]] = (
    lambda recipe: recipe.is_adapter,
    "technique lora, qlora or molora",
)
_QLORA: Final[tuple[_Test, str]] = (lambda recipe: recipe.technique == "qlora", "technique qlora")
_EWC: Final[tuple[_Test, str]] = (lambda recipe: recipe.regulariser == "ewc", "regulariser ewc")

#: Key → whether it does something, and what it takes.
_NEEDS: Final[Mapping[str, tuple[_Test, str]]] = {
    **dict.fromkeys(("lora_r", "lora_alpha", "lora_dropout", "use_rslora", "lora_ranks"), _LORA),
    **dict.fromkeys(
        ("num_experts", "top_k", "shared_expert", "routing", "router_aux_loss_coef"), _MOLORA
    ),
    **dict.fromkeys(("bnb_4bit_quant_type", "use_bnb_nested_quant"), _QLORA),
    **dict.fromkeys(("fisher_data", "fisher_samples"), _EWC),
    "regulariser_strength": (lambda recipe: recipe.regulariser != "none", "regulariser l2 or ewc"),
    "eval_steps": (lambda recipe: recipe.validation is not None, "validation"),
    "run_name": (lambda recipe: bool(recipe.report_to), "report_to"),
    "save_total_limit": (
        lambda recipe: recipe.save_steps > 0 or recipe.early_stopping_patience > 0,
        "save_steps above 0",
    ),
}


def refuse_unused(recipe: Recipe, keys: Collection[str]) -> None:
    """Refuse keys that were asked for and do nothing.

    Args:
        recipe: The recipe that they are in.
        keys: What was asked for; what a preset or a file holds besides may do nothing.

    Raises:
        InputError: If there is one that does nothing, naming what it takes.
    """
    for key, (works, needed) in _NEEDS.items():
        if key in keys and not works(recipe):
            names = {field.name: field.metadata.get("flag") for field in fields(Recipe)}
            flag = names[key] or f"--{key.replace('_', '-')}"
            raise InputError(
                f"{flag} has no effect without {needed}.", "Leave it out, or ask for that as well."
            )
