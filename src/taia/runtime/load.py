"""A model and its update from folders or the hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch

from taia.checkpoint.adapters.read import read_adapter
from taia.checkpoint.index import ADAPTER_CONFIG
from taia.checkpoint.locate import Located, locate
from taia.errors import AdapterError, first_line
from taia.loading import load_model

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import nn
    from transformers import PreTrainedModel


def load_parts(
    base: str | Path,
    tuned: str | Path | None,
    *,
    dtype: torch.dtype | None = None,
    device: str | None = None,
    **options: Any,  # noqa: ANN401 - transformers' own
) -> tuple[PreTrainedModel | PeftModel, PreTrainedModel | None]:
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
    """
    if device is None and "device_map" not in options:
        device = best_device()
    wanted: Any = dtype or (torch.float32 if device == "cpu" else "auto")
    place = locate(base)
    if _is_adapter(place):
        # transformers would load the base that the adapter names, and the adapter on it.
        raise AdapterError(
            f"{place.given} is an adapter, and was given as the base model.",
            "Give the model that it was trained on, and the adapter as the tuned one.",
        )
    other = None if tuned is None else locate(tuned)
    model = _load(place, wanted, device, options)
    if other is None:
        return model, None
    if _is_adapter(other):
        return with_adapter(model, other), None
    return model, _load(other, model.dtype, device, options)


def with_adapter(model: PreTrainedModel, place: Located) -> PeftModel:
    """Put an adapter on a model, all of it.

    Raises:
        AdapterError: If it cannot be read, or PEFT does not use all of it on this model.
    """
    from peft import PeftModel, load_peft_weights, set_peft_model_state_dict

    import taia.molora  # noqa: F401 - makes MoLoRA known to PEFT

    read_adapter(place.path)
    try:
        adapted = PeftModel.from_pretrained(model, place.path)
    except (ValueError, RuntimeError, KeyError) as error:
        raise AdapterError(
            f"{place.given} does not fit the base model: {first_line(error)}.",
            "Give the base model that the adapter was trained on.",
        ) from error
    # PEFT leaves out without a word what has no place in the model.
    weights = load_peft_weights(
        str(place.path),
        device="cpu",
        key_mapping=getattr(model, "_checkpoint_conversion_mapping", {}),
    )
    done: Any = set_peft_model_state_dict(adapted, weights)
    if done.unexpected_keys:
        raise AdapterError(
            f"{len(done.unexpected_keys)} tensors of {place.given} have no place in the base "
            f"model, {done.unexpected_keys[0]} first.",
            "Give the base model that the adapter was trained on.",
        )
    return adapted


def _is_adapter(place: Located) -> bool:
    return (place.path / ADAPTER_CONFIG).is_file()


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


def best_device() -> str:
    """Where to compute unless told: the accelerator if there is one."""
    best = torch.accelerator.current_accelerator(check_available=True)
    return "cpu" if best is None else best.type
