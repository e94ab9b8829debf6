"""Which parameters train: a selection, read on the model in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from taia.anatomy import Anatomy, Label
from taia.errors import InputError, SelectionError
from taia.selection import Selection

if TYPE_CHECKING:
    from torch import nn

#: What adapters are put on; never head or embeddings, as in the paper.
_ADAPTED: Final = frozenset({"attention", "mlp", "shared_experts", "experts"})


@dataclass(frozen=True, slots=True)
class Targets:
    """What an adapter is put on.

    Attributes:
        modules: Names of linear modules.
        parameters: Names of fused expert weights, ``[experts, out, in]``.
        experts: Those of ``modules`` that belong to the feed-forward block.
        ranks: Module → rank, where it is not the recipe's.
    """

    modules: tuple[str, ...]
    parameters: tuple[str, ...]
    experts: tuple[str, ...]
    ranks: Mapping[str, int]


def chosen(anatomy: Anatomy, selection: str) -> dict[str, Label]:
    """The tensors a selection means.

    Raises:
        SelectionError: If it matches nothing, or means a part or a fraction of a tensor.
    """
    labels = {}
    for name, alpha in Selection.parse(selection).alphas(anatomy).items():
        if alpha not in (0.0, 1.0):
            raise SelectionError(
                f"{selection!r} means a part of {name}, which trains whole or not at all.",
                "Select whole projections, and no fractions, for training.",
            )
        if alpha:
            labels[name] = anatomy[name]
    return labels


def freeze_but(model: nn.Module, selection: str, anatomy: Anatomy | None = None) -> tuple[int, int]:
    """Lets only what a selection means train.

    Args:
        model: The model; its parameters' ``requires_grad`` is set.
        selection: Which parameters.
        anatomy: The model's, if it is known already.

    Returns:
        How many numbers train, and how many there are.

    Raises:
        SelectionError: If it cannot be, for one because tied tensors would be torn apart.
    """
    names = set(chosen(anatomy or Anatomy.of_model(model), selection))
    by_storage: dict[int, list[str]] = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        by_storage[id(parameter)].append(name)
    trained = total = 0
    for parameter in model.parameters():
        shared = by_storage[id(parameter)]
        wanted = {name in names for name in shared}
        if len(wanted) > 1:
            raise SelectionError(
                f"{selection!r} means one of {' and '.join(shared)}, which are one tensor.",
                "Select both of them or neither.",
            )
        parameter.requires_grad_(wanted.pop() and parameter.is_floating_point())
        trained += parameter.numel() * parameter.requires_grad
        total += parameter.numel()
    return trained, total


def targets(
    model: nn.Module, selection: str, ranks: Mapping[str, int], anatomy: Anatomy | None = None
) -> Targets:
    """What an adapter is put on: the linear layers and fused experts that a selection means.

    Args:
        model: The model, not wrapped yet.
        selection: Which parameters.
        ranks: Selection → rank, later ones win.
        anatomy: The model's, if it is known already.

    Raises:
        SelectionError: If a selection matches nothing that an adapter can be put on.
    """
    anatomy = anatomy or Anatomy.of_model(model)
    labels = {n: x for n, x in chosen(anatomy, selection).items() if x.component in _ADAPTED}
    linears = _linears(model)
    modules = [n.removesuffix(".weight") for n in labels if n.removesuffix(".weight") in linears]
    parameters = [
        name
        for name, label in labels.items()
        if label.component == "experts" and len(label.tensor.shape or ()) == 3
    ]
    if not modules and not parameters:
        raise SelectionError(
            f"{selection!r} means no linear layer of attention or the feed-forward block.",
            "An adapter trains these; for norms, embeddings and head use --technique full.",
        )
    wanted: dict[str, int] = {}
    for text, rank in ranks.items():
        names = {name.removesuffix(".weight") for name in chosen(anatomy, text)}
        if not names.intersection(modules):
            raise SelectionError(
                f"lora_ranks: {text!r} means nothing that gets an adapter here.",
                "Select a part of what trains.",
            )
        wanted |= {name: rank for name in modules if name in names}
    experts = [name for name in modules if labels[f"{name}.weight"].component != "attention"]
    return Targets(tuple(modules), tuple(parameters), tuple(experts), wanted)


def rates(
    model: nn.Module, anatomy: Anatomy, learning_rates: Mapping[str, float]
) -> dict[str, float]:
    """Parameter → its own learning rate, where a recipe gives one; later selections win.

    Args:
        model: The model as it trains, with or without an adapter around it.
        anatomy: Of the model before.
        learning_rates: Selection → learning rate.

    Raises:
        InputError: If one of them means nothing that trains.
    """
    found: dict[str, float] = {}
    trained = {n: _original(n) for n, p in model.named_parameters() if p.requires_grad}
    for text, rate in learning_rates.items():
        names = set(chosen(anatomy, text))
        modules = {name.rpartition(".")[0] for name in names}
        hit = {
            name
            for name, plain in trained.items()
            if plain in names or (plain not in anatomy and _inside(plain, modules))
        }
        if not hit:
            raise InputError(
                f"learning_rates: {text!r} means nothing that trains.",
                "Select a part of what trains.",
            )
        found |= dict.fromkeys(hit, rate)
    return found


def _linears(model: nn.Module) -> Collection[str]:
    """Names of the modules that are linear layers, in transformers' own classes, too."""
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    return {
        name
        for name, module in model.named_modules()
        if isinstance(module, (Linear, Conv1D)) or type(module).__name__.startswith("Linear")
    }


def _original(name: str) -> str:
    """A parameter's name before PEFT wrapped its module."""
    name = name.removeprefix("base_model.model.")
    return name.replace(".base_layer.", ".").replace(".modules_to_save.default.", ".")


def _inside(name: str, modules: Collection[str]) -> bool:
    """Whether a parameter of an adapter lies in one of the modules it adapts."""
    parts = name.split(".")
    return any(".".join(parts[:stop]) in modules for stop in range(len(parts) - 1, 0, -1))


def component(name: str, anatomy: Anatomy) -> tuple[str, bool]:
    """What a parameter belongs to.

    Args:
        name: Its name in a model that may have an adapter around it.
        anatomy: Of the model before.

    Returns:
        The component, and whether the parameter is the model's own rather than an adapter's.
    """
    plain = _original(name)
    if plain in anatomy:
        return anatomy[plain].component, True
    parts = plain.split(".")
    for stop in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:stop])
        for key in (f"{module}.weight", module):
            if key in anatomy:
                return anatomy[key].component, False
        inside = next((n for n in anatomy if n.startswith(f"{module}.")), None)
        if inside is not None:
            return anatomy[inside].component, False
    raise AssertionError(name)
