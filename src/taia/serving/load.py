"""From what was typed to a model that can be served."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from taia.runtime.check import Limits
from taia.serving.prompts import Prompter
from taia.serving.settings import ServingSettings
from taia.serving.texts import TokenTexts
from taia.serving.worker import ServedModel

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from taia.runtime.switchable import SwitchableModel


def load(
    base: str,
    tuned: str,
    modes: Mapping[str, str],
    settings: ServingSettings,
    *,
    dtype: str | None = None,
    device: str | None = None,
    declare: Mapping[str, str] | None = None,
) -> ServedModel:
    """Load a model with its modes.

    Args:
        base: The model before fine-tuning: a folder or a hub name.
        tuned: The model after it: a folder, a hub name, or a PEFT adapter.
        modes: Mode → selection.
        settings: What the server allows.
        dtype: Of the weights, as torch calls it; by default float32 on a CPU and the checkpoint's
            on a GPU.
        device: Where to.
        declare: Pattern of a tensor's name → component, for names that anatomy does not know.

    Raises:
        InputError: If they cannot be used together.
    """
    from taia.checkpoint.locate import locate
    from taia.loading.models import dtype_called, load_tokenizer, speaker
    from taia.runtime.switchable import SwitchableModel

    tokenizer = load_tokenizer(speaker(locate(base), locate(tuned)))
    kind = dtype_called(dtype) if dtype else None
    model = SwitchableModel.load(
        base,
        tuned,
        modes,
        dtype=kind,
        device=device,
        declare=declare or None,
        check_pair=False,  # it has been, before the server listens
    )
    return prepare(model, modes, tokenizer, settings)


def prepare(
    model: SwitchableModel,
    modes: Mapping[str, str],
    tokenizer: PreTrainedTokenizerBase,
    settings: ServingSettings,
) -> ServedModel:
    """Make a live model ready to be served in some of its modes."""
    from taia.loading.models import end_tokens
    from taia.runtime.engine import Engine

    prompter = Prompter(
        tokenizer, end_tokens(model.model, tokenizer), Limits.of(model.model), settings.max_tokens
    )
    return ServedModel(
        model,
        modes,
        prompter,
        TokenTexts(tokenizer),
        Engine(model, tokenizer, max_rows=settings.max_rows),
    )
