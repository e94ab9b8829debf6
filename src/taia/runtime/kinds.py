"""Which kind of update a live model has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from taia.errors import AdapterError
from taia.runtime.adapter import AdapterUpdate
from taia.runtime.pair import CheckpointUpdate
from taia.runtime.update import NoUpdate, Update

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel


def update_of(
    model: PeftModel | PreTrainedModel,
    tuned: Mapping[str, torch.Tensor] | PreTrainedModel | None,
    declare: Mapping[str, str] | None = None,
    replaced: Mapping[str, torch.Tensor] | None = None,
) -> Update:
    """The update of a live model.

    Args:
        model: With an adapter, or the base.
        tuned: The tuned checkpoint of a base.
        declare: Labels for tensors that no rule knows.
        replaced: Name → the base's values of what loading the adapter wrote over, if kept.

    Raises:
        AdapterError: If an adapter cannot be switched.
        MismatchError: If base and tuned do not belong together.
    """
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    if isinstance(model, PeftModel):
        if tuned is not None:
            raise AdapterError(
                "There are an adapter and a tuned checkpoint.", "Give one of the two."
            )
        return AdapterUpdate(model, declare, replaced)
    if any(isinstance(module, BaseTunerLayer) for module in model.modules()):
        raise AdapterError(
            "The model has adapter layers, and is no PeftModel.",
            "Load the adapter with PeftModel.from_pretrained, or get_peft_model.",
        )
    return NoUpdate() if tuned is None else CheckpointUpdate(model, tuned, declare)
