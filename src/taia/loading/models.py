"""A live model from a folder, by transformers: no network, no pickle, no code of the folder's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from taia.checkpoint.locate import Located
from taia.errors import CheckpointError
from taia.loading.reading import read_by_transformers

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel


def load_config(place: Located) -> PreTrainedConfig:
    """A model's configuration.

    Raises:
        CheckpointError: If there is none that transformers knows.
    """
    from transformers import AutoConfig

    with read_by_transformers(f"The config.json of {place.given}"):
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            place.path, local_files_only=True, trust_remote_code=False
        )
    return config


def load_model(
    place: Located, dtype: torch.dtype | Literal["auto"], **options: object
) -> PreTrainedModel:
    """A model that writes text, with all its weights; one that also sees or hears, whole.

    Args:
        place: Where it lies.
        dtype: Of its weights in memory; ``"auto"`` for what they have on disk.
        **options: Further ones of ``from_pretrained``.

    Raises:
        CheckpointError: If transformers does not load it, or weights are missing.
        MemoryError: If it does not fit into memory.
    """
    loader = _loader(load_config(place))
    with read_by_transformers(f"The model {place.given}"):
        model, report = loader.from_pretrained(
            place.path,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            local_files_only=True,
            trust_remote_code=False,
            **{key: value for key, value in options.items() if value is not None},
        )
    if missing := sorted(report["missing_keys"]):
        raise CheckpointError(
            f"{place.given} lacks {len(missing)} of the model's tensors, {missing[0]} first.",
            "Give the complete model, with a head that writes text.",
        )
    # PEFT writes it into the adapter as the base to load.
    model.name_or_path = place.repo or str(place.path.resolve())
    loaded: PreTrainedModel = model
    return loaded


def _loader(config: PreTrainedConfig) -> Any:  # noqa: ANN401 - transformers' auto classes
    """Which of transformers' auto classes builds the class that a config was saved with.

    A type may be in several: the text alone of a vision-language model is a causal language model
    too, which adapters and checkpoints of the whole do not fit.
    """
    import transformers
    from transformers.models.auto import modeling_auto as known

    tables = {
        "AutoModelForCausalLM": known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        "AutoModelForImageTextToText": known.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
        "AutoModelForMultimodalLM": known.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
    }
    kind = config.model_type
    fitting = [name for name, table in tables.items() if kind in table]
    saved = [name for name in fitting if tables[name][kind] in (config.architectures or ())]
    return getattr(transformers, (saved or fitting or [*tables])[0])
