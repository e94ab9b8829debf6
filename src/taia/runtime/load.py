"""A model and its update from folders or the hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch

from taia.checkpoint.adapters.patterns import check_patterns
from taia.checkpoint.adapters.read import Adapter, read_adapter
from taia.checkpoint.folders import ADAPTER_CONFIG, check_whole, holds_adapter
from taia.checkpoint.locate import Located, locate
from taia.errors import AdapterError, blaming, first_line
from taia.loading.devices import device_called
from taia.loading.models import load_model
from taia.packages import require_packages
from taia.runtime.layers import original

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from torch import nn
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Loaded:
    """A model and its update.

    Attributes:
        model: The base, with the adapter where there is one.
        tuned: The tuned model, where that is a whole checkpoint.
        replaced: Name → the base's values of what loading the adapter wrote over.
    """

    model: PreTrainedModel | PeftModel
    tuned: PreTrainedModel | None = None
    replaced: Mapping[str, torch.Tensor] = field(default_factory=dict)


def load_parts(
    base: str | Path,
    tuned: str | Path | None,
    *,
    dtype: torch.dtype | None = None,
    device: str | None = None,
    **options: Any,  # noqa: ANN401 - transformers' own
) -> Loaded:
    """Load a base model with its adapter, or a base model and a tuned one.

    Args:
        base: A folder or hub name.
        tuned: Likewise: an adapter, a whole checkpoint, or None.
        dtype: Of the weights; None for float32 on the CPU and the checkpoint's own elsewhere.
        device: Where to; None for the accelerator if there is one.
        **options: Further ones of ``from_pretrained``.

    Raises:
        CheckpointError: If a model cannot be loaded.
        AdapterError: If the adapter does not fit the base.
        InputError: If there is no such device.
    """
    if device is not None or "device_map" not in options:
        device = device_called(device)
    wanted: Any = dtype or (torch.float32 if device == "cpu" else "auto")
    place = locate(base)
    if _is_adapter(place):
        # transformers would load the base that the adapter names, and the adapter on it.
        raise AdapterError(
            f"{place.given} is an adapter, and was given as the base model.",
            "Give the model that it was trained on, and the adapter as the tuned one.",
        )
    other = None if tuned is None else locate(tuned)
    if other is not None:  # before the base is loaded
        if _is_adapter(other):
            require_packages("torch", "peft")
        else:
            check_whole(other.path)
    model = _load(place, wanted, device, options)
    if other is None:
        return Loaded(model)
    if _is_adapter(other):
        return with_adapter(model, other)
    return Loaded(model, _load(other, model.dtype, device, options))


def with_adapter(model: PreTrainedModel, place: Located) -> Loaded:
    """Put an adapter on a model, all of it.

    Raises:
        AdapterError: If it cannot be read, or PEFT does not use all of it on this model.
    """
    from peft import PeftModel, load_peft_weights, set_peft_model_state_dict

    adapter = read_adapter(place.path)
    names = (name for name, _ in cast("nn.Module", model).named_modules())
    check_patterns(adapter.config, names, place.path / ADAPTER_CONFIG)
    before = _kept(model, adapter)
    with blaming(
        AdapterError,
        f"{place.given} does not fit the base model",
        "Give the base model that the adapter was trained on.",
        telling=_telling,
    ):
        adapted = PeftModel.from_pretrained(model, place.path, config=peft_config(adapter))
    # PEFT leaves out without a word what has no place in the model.
    weights = load_peft_weights(
        str(place.path),
        device="cpu",
        key_mapping=getattr(model, "_checkpoint_conversion_mapping", {}),
    )
    done: Any = set_peft_model_state_dict(adapted, weights)
    # PEFT itself saves some twice, and uses one of them.
    unused = {
        part.tensor
        for update in adapter.updates
        if update.kind == "unused"
        for part in update.parts.values()
    }
    if lost := [key for key in done.unexpected_keys if key not in unused]:
        raise AdapterError(
            f"{len(lost)} tensors of {place.given} have no place in the base model, {lost[0]} "
            "first.",
            "Give the base model that the adapter was trained on; names of an older version are "
            "brought up to date by `taia compose BASE ADAPTER --keep tuned`.",
        )
    return Loaded(adapted, replaced=before)


def peft_config(adapter: Adapter) -> PeftConfig:
    """An adapter's config as PEFT's own, from the values that taia has read.

    PEFT reads the file once more otherwise, and takes no null where an older version of it wrote
    one.

    Raises:
        AdapterError: If PEFT does not take it.
    """
    from peft import PeftConfig

    import taia.molora  # noqa: F401 - makes MoLoRA known to PEFT

    values = {key: value for key, value in adapter.config.items() if key != "runtime_config"}
    with blaming(
        AdapterError,
        f"PEFT does not take {adapter.folder / ADAPTER_CONFIG}",
        "Save the adapter again with PEFT.",
    ):
        made: PeftConfig = PeftConfig.from_peft_type(**values)  # type: ignore[no-untyped-call]
    return made


def _kept(model: PreTrainedModel, adapter: Adapter) -> dict[str, torch.Tensor]:
    """Copies of the base's tensors that PEFT will write over: trained biases, saved embeddings.

    Raises:
        AdapterError: If the model has no such tensor, or one of another shape.
    """
    live = dict(cast("nn.Module", model).named_parameters(remove_duplicate=False))
    kept = {}
    for update in adapter.updates:
        if update.kind not in ("bias", "whole") or update.wrapper is not None:
            continue
        name = original(update.parameter)
        if name not in live:
            raise AdapterError(
                f"{adapter.folder} replaces {name!r}, which the base model does not have.",
                "Give the base model that the adapter was trained on.",
            )
        (part,) = update.parts.values()
        if adapter.shape(part) != tuple(live[name].shape):
            raise AdapterError(
                f"{adapter.folder} has {name!r} as {list(adapter.shape(part))}, and the base model "
                f"as {list(live[name].shape)}.",
                "Give the base with the vocabulary that the adapter was trained on: transformers' "
                "resize_token_embeddings, saved; or compose on disk.",
            )
        kept[name] = live[name].detach().clone()
    return kept


def _telling(error: BaseException) -> str:
    """The line of an error that says what does not fit: torch's first names the model alone."""
    lines = [line.strip().rstrip(".") for line in str(error).splitlines() if "mismatch" in line]
    return lines[0] if lines else first_line(error)


def _is_adapter(place: Located) -> bool:
    return holds_adapter(place.path)


def _load(
    place: Located,
    dtype: torch.dtype | Literal["auto"],
    device: str | None,
    options: dict[str, Any],
) -> PreTrainedModel:
    model = load_model(place, dtype, **options)
    if device is not None and "device_map" not in options:
        cast("nn.Module", model).to(device)
    return model
