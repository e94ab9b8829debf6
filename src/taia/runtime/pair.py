"""The update of a whole tuned checkpoint: tensors that differ, exchanged by reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, NoReturn

import torch

from taia.anatomy import Anatomy, TensorInfo
from taia.checkpoint.configs import check_exchangeable
from taia.errors import CheckpointError, MismatchError
from taia.runtime.alphas import Alphas, Slots
from taia.runtime.exchange import Exchanged, exchange, same_bits, stand_ins
from taia.runtime.formulas import LiveFormula, by_formula
from taia.runtime.update import Changed, Plan, changing, check_scales
from taia.selection import Selection

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from taia.methods import Applied


class CheckpointUpdate:
    """A base model in memory, and of a tuned checkpoint what differs from it.

    A tensor of α 0 or 1 is a reference to one of the two; a fraction is calculated when a mode is
    entered and freed when it is left.

    Args:
        model: The base model, whole and not quantised.
        tuned: Another model, or its state by name.
        declare: Labels for tensors that no rule knows.

    Raises:
        MismatchError: If names, shapes or dtypes differ.
        CheckpointError: If the base is quantised or lies partly on disk.
    """

    cannot_mix: Final = "a tuned checkpoint has one weight for all rows"
    has_update: Final = True
    found_in: Final = "base"
    replaced: Final = None

    def __init__(
        self,
        model: PreTrainedModel,
        tuned: Mapping[str, torch.Tensor] | PreTrainedModel,
        declare: Mapping[str, str] | None = None,
    ) -> None:
        live = _state(model)
        if isinstance(tuned, torch.nn.Module):
            check_exchangeable(model.config.to_dict(), tuned.config.to_dict())
            theirs = _state(tuned)
        else:
            theirs = _untied(tuned, model)
        _check_alike(live, theirs)
        self.labels = Anatomy.of_tensors(
            [TensorInfo(name, tuple(tensor.shape)) for name, tensor in live.items()],
            model.config.to_dict(),
            declare,
        )
        self._tensors = [
            Exchanged(name, mine, mine.data, _own(theirs[name].data, mine.device), mine.data_ptr())
            for name, mine in live.items()
            if not same_bits(mine.data, theirs[name].data)
        ]
        self.changed = tuple(
            Changed(self.labels[tensor.name], tensor.base.is_floating_point())
            for tensor in self._tensors
        )
        self._model = model
        self._slots = Slots()

    def plan(self, selection: Selection, method: Applied | None = None) -> Plan:
        """Work out the α of each tensor that differs, or what a method makes of it.

        Raises:
            MethodError: If the method lacks what it needs, or a tensor is none for it.
            SelectionError: If the selection matches nothing.
        """
        found = selection.alphas(self.labels)
        if method is None:
            alphas = tuple(found[tensor.name] for tensor in self._tensors)
            return Plan(alphas, alphas)
        formula = LiveFormula(method, self.labels)
        found = formula.weighed(found)
        alphas = tuple(found[tensor.name] for tensor in self._tensors)
        steps = tuple(
            by_formula(self._model, tensor, formula, alpha)
            for tensor, alpha in zip(self._tensors, alphas, strict=True)
        )
        made = any(isinstance(step, torch.Tensor) for step in steps)
        return Plan(alphas, steps, method=str(method) if made else "")

    def plan_at(self, alphas: Alphas) -> Plan:
        """Work out which tensors stand in for the model's while α have a gradient.

        Raises:
            InputError: If one is no tensor that differs.
        """
        check_scales(self.changed, alphas)
        ends = tuple(0.0 if tensor.name in alphas else 1.0 for tensor in self._tensors)
        with self._slots.lifted():
            slots = stand_ins(self._model, self._tensors, alphas)
        return Plan(changing(), ends, slots)

    def apply(self, plan: Plan) -> None:
        """Put the model in a mode.

        Raises:
            CheckpointError: If the model's tensors were exchanged by someone else meanwhile.
        """
        self._slots.put(())
        exchange(self._tensors, plan.steps)
        self._slots.put(plan.slots)

    def apply_rows(self, plans: Sequence[Plan]) -> NoReturn:
        """Never called: rows cannot be mixed."""
        raise AssertionError(self.cannot_mix)


def _state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and saved buffers by name; tied ones once, under their first name."""
    saved = model.state_dict().keys()
    state: dict[str, torch.Tensor] = dict(model.named_parameters())
    return state | {name: buffer for name, buffer in model.named_buffers() if name in saved}


def _untied(tuned: Mapping[str, torch.Tensor], model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A state given by name, without the second names of tensors that the base ties.

    Raises:
        MismatchError: If they are not tied there.
    """
    state = dict(tuned)
    first: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        own = first.setdefault(id(parameter), name)
        if own != name and name in state:
            if own in state and not same_bits(state[own], state[name]):
                raise MismatchError(
                    f"{name} is {own} in the base, and another tensor in the tuned model.",
                    "Compose it on disk with `taia compose`, which unties the two.",
                )
            state.setdefault(own, state.pop(name))
    return state


def _check_alike(live: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]) -> None:
    only = sorted(live.keys() ^ theirs.keys())
    if only:
        whose = "base" if only[0] in live else "tuned model"
        raise MismatchError(
            f"Only the {whose} has {only[0]} ({len(only)} tensors are in one of the two alone).",
            "Give a model that was fine-tuned from this base.",
        )
    for name, mine in live.items():
        if mine.device.type == "meta" or getattr(mine, "quant_state", None) is not None:
            raise CheckpointError(
                f"{name} is quantised or not in memory, so that it cannot be compared.",
                "Load base and tuned whole and not quantised, or use an adapter.",
            )
        other = theirs[name]
        if (mine.shape, mine.dtype) != (other.shape, other.dtype):
            raise MismatchError(
                f"{name} is {_described(mine)} in the base and {_described(other)} in the tuned "
                "model.",
                "Give a model that was fine-tuned from this base, loaded in the same dtype.",
            )


def _described(tensor: torch.Tensor) -> str:
    return f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _own(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on a device, in memory of its own: a view would keep all of its owner's."""
    tensor = tensor.to(device)
    whole = tensor.untyped_storage().nbytes() == tensor.nbytes
    return tensor if whole else tensor.clone()
