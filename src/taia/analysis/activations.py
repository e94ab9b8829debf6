"""What a mode does to a model's hidden states on given prompts.

**Residual rank** (TAIA's RQ5): ‖X − 1μᵀ‖/‖X‖ of the states X [tokens, width] after each attention
block, with ‖·‖ = √(‖·‖₁·‖·‖_∞) and μ the mean over tokens (Dong et al. 2021, arXiv 2103.03404).
Near zero, all tokens are alike.

**Activation similarity** (its §4.6): the cosine between a mode's hidden states and the base's,
token by token, after each layer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import takewhile
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

import torch

from taia.anatomy import Anatomy
from taia.errors import DataError, RunError
from taia.runtime.forward import at_rest
from taia.runtime.layers import read_anatomy, read_layers

if TYPE_CHECKING:
    from taia.runtime.switchable import SwitchableModel

_FEED_FORWARD: Final = ("mlp", "experts", "shared_experts", "router")


@dataclass(frozen=True)
class Activations:
    """Hidden states of one mode, in numbers; means over prompts.

    Attributes:
        mode: The mode.
        residual_rank: Of each layer, after its attention block.
        similarity: To the base's, after each layer.
    """

    mode: str
    residual_rank: tuple[float, ...]
    similarity: tuple[float, ...]


def activations(
    model: SwitchableModel, prompts: Sequence[Sequence[int]], modes: Sequence[str]
) -> tuple[Activations, ...]:
    """Measure modes on prompts, one prompt at a time.

    Args:
        model: The model; it is left in the mode that it is in.
        prompts: Tokens of each, at least two.
        modes: Modes or selections.

    Raises:
        DataError: If there is no prompt, or one is a single token: nothing varies over it.
        RunError: If the model computes attention and feed-forward block side by side, so that
            nothing lies between them.
        SelectionError: If a mode is none.
    """
    if not prompts or min(map(len, prompts)) < 2:
        raise DataError("A prompt has fewer than two tokens.", "Give prompts of some words.")
    ranks: dict[str, list[list[float]]] = defaultdict(list)
    likeness: dict[str, list[list[float]]] = defaultdict(list)
    with at_rest(model.model), _between(model) as between:
        for prompt in prompts:
            ids = torch.tensor([list(prompt)], device=model.device)
            with model.mode("base"):
                before = _states(model, ids)
            for mode in modes:
                with model.mode(mode):
                    after = _states(model, ids)
                ranks[mode].append([residual_rank(state) for state in between])
                pairs = zip(before, after, strict=True)
                likeness[mode].append([_alike(one, other) for one, other in pairs])
    return tuple(
        Activations(
            mode,
            tuple(map(fmean, zip(*ranks[mode], strict=True))),
            tuple(map(fmean, zip(*likeness[mode], strict=True))),
        )
        for mode in modes
    )


def residual_rank(states: torch.Tensor) -> float:
    """‖X − 1μᵀ‖/‖X‖ with ‖X‖ = √(‖X‖₁·‖X‖_∞).

    Args:
        states: [tokens, width].
    """
    states = states.double()
    whole = _norm(states)
    return _norm(states - states.mean(0)) / whole if whole else 0.0


def _norm(states: torch.Tensor) -> float:
    size = states.abs()
    return float((size.sum(0).max() * size.sum(1).max()).sqrt())


def _alike(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(one.double(), other.double(), -1).mean())


def _states(model: SwitchableModel, ids: torch.Tensor) -> list[torch.Tensor]:
    """[tokens, width] after each layer."""
    out = model(ids, output_hidden_states=True, use_cache=False)
    return [states[0] for states in out.hidden_states[1:]]


@contextmanager
def _between(model: SwitchableModel) -> Iterator[list[torch.Tensor]]:
    """A list that holds, after a forward pass, what each layer has between its two blocks.

    That is what the feed-forward block's first norm is given, or the block itself where it has
    none before it.
    """
    plain: Any = model.model
    plain = plain.get_base_model() if hasattr(plain, "get_base_model") else plain
    inside: dict[str, Any] = dict(plain.named_modules())
    found: list[torch.Tensor] = []
    given: dict[str, torch.Tensor] = {}

    def entered(layer: str, first: bool) -> Any:  # noqa: ANN401 - a hook
        def hook(_: object, args: tuple[Any, ...], options: dict[str, Any]) -> None:
            states = args[0] if args else options["hidden_states"]
            if first:
                given[layer] = states
            elif layer in given:
                if given.pop(layer) is states:
                    raise RunError(
                        f"{layer} computes attention and feed-forward block side by side.",
                        "There is no state between them to measure: leave this model out.",
                    )
                found.append(states.reshape(-1, states.shape[-1]))

        return hook

    places = _places(_anatomy(model), inside)
    with ExitStack() as stack:
        for layer, modules in places.items():
            for number, name in enumerate([layer, *modules]):
                hook = entered(layer, number == 0)
                handle = inside[name].register_forward_pre_hook(hook, with_kwargs=True)
                stack.callback(handle.remove)
        handle = inside[next(iter(places))].register_forward_pre_hook(lambda *_: found.clear())
        stack.callback(handle.remove)
        yield found


def _anatomy(model: SwitchableModel) -> Anatomy:
    inner: Any = model.model
    if not hasattr(inner, "get_base_model"):
        return Anatomy.of_model(inner)
    with model.mode("tuned"):  # layers that are switched off are not read
        return read_anatomy(inner, read_layers(inner))


def _places(anatomy: Anatomy, inside: Mapping[str, Any]) -> dict[str, list[str]]:
    """Layer → the modules of which the first to run is given what lies between the blocks."""
    norms: dict[str, set[str]] = defaultdict(set)
    blocks: dict[str, list[str]] = defaultdict(list)
    for label in anatomy.values():
        if label.layer is None:
            continue
        layer, name = f"{label.stack}.{label.layer}", label.tensor.name.rpartition(".")[0]
        if label.component in _FEED_FORWARD:
            blocks[layer].append(name)
        elif label.component == "norm" and label.block in ("mlp", "both"):
            norms[layer].add(name)
    places = {}
    for layer, names in blocks.items():
        together = zip(*(name.split(".") for name in names), strict=False)
        alike = takewhile(lambda parts: len({*parts}) == 1, together)
        block = ".".join(parts[0] for parts in alike)
        found = {*norms[layer], block} - {layer}
        places[layer] = [name for name in sorted(found) if name in inside]
    return places
