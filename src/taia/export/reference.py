"""The source, and outputs for PEFT and transformers, as live models in float32."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from taia.checkpoint.adapters.names import PEFT_TYPE
from taia.checkpoint.index import read_json
from taia.checkpoint.locate import Located
from taia.errors import RunError, first_line
from taia.export.follow import Trace, follow, lead, prompt_ids
from taia.loading.models import load_model

if TYPE_CHECKING:
    from taia.export.source import Source


def load_whole(place: Located) -> Any:  # noqa: ANN401 - a PreTrainedModel
    """A whole checkpoint in float32.

    Raises:
        CheckpointError: If transformers does not load it.
    """
    model: Any = load_model(place, torch.float32)
    return model.eval()


def load_adapted(base: Any, folder: Path) -> Any:  # noqa: ANN401 - a PeftModel
    """A base with an adapter on it.

    Raises:
        RunError: If PEFT does not load the adapter, or not all of it.
    """
    from peft import PeftModel

    if read_json(folder / "adapter_config.json").get("peft_type") == PEFT_TYPE:
        import taia.molora  # noqa: F401 - makes it known to PEFT
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            adapted = PeftModel.from_pretrained(base, str(folder))
        except (ValueError, RuntimeError, KeyError, TypeError) as error:
            raise RunError(
                f"PEFT does not load {folder.name}: {first_line(error)}.",
                "Check that the base model is the one the adapter was trained on.",
            ) from error
    if told := [str(w.message) for w in caught if "missing adapter keys" in str(w.message)]:
        raise RunError(
            f"PEFT found only a part of {folder.name}: {told[0].splitlines()[0][:200]}",
            "The adapter's config and tensors do not belong together; save it again.",
        )
    return adapted.eval()


def source_trace(source: Source) -> tuple[Trace, torch.Tensor | None]:
    """What the source says, and for an adapter, what its base says to the same tokens."""
    if source.adapter is None:
        model = load_whole(source.place)
        return lead(model, prompt_ids(source.place, model.config.vocab_size)), None
    model = load_whole(source.base)
    prompt = prompt_ids(source.base, model.config.vocab_size)
    adapted = load_adapted(model, source.folder)
    trace = lead(adapted, prompt)
    with adapted.disable_adapter():
        return trace, follow(adapted, trace)
