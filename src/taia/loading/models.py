"""Live models and their tokenizers from folders, by transformers.

No network, no pickle, no code of the folder's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from taia.checkpoint.folders import check_whole, holds_adapter
from taia.checkpoint.locate import Located
from taia.checkpoint.output.tokenizer_files import has_tokenizer
from taia.errors import CheckpointError, InputError, first_line, reading_of
from taia.packages import is_missing, not_installed

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


@contextmanager
def read_by_transformers(what: str) -> Iterator[None]:
    """Whatever transformers raises is bad input, but for memory that has run out.

    Args:
        what: What is read, and whose, such as ``"The tokenizer of base/"``.

    Raises:
        CheckpointError: If anything is raised.
        MemoryError: If memory ran out, of the machine or of the accelerator.
    """
    mend = "Give a folder or hub name with config.json, tokenizer and safetensors weights."
    with reading_of(what, mend, CheckpointError):
        try:
            yield
        except ImportError as error:  # a quantised model's own package
            if is_missing(error):
                raise not_installed(error, "torch") from error
            raise CheckpointError(
                f"{what} cannot be read: {first_line(error)}.", "Install what it names."
            ) from error


def load_config(place: Located) -> PreTrainedConfig:
    """A model's configuration.

    Raises:
        CheckpointError: If there is none that transformers knows.
    """
    from transformers import AutoConfig

    config: PreTrainedConfig = _part_of(place, "config.json", AutoConfig)
    return config


def load_tokenizer(place: Located) -> PreTrainedTokenizerBase:
    """A model's tokenizer.

    Raises:
        CheckpointError: If there is none that transformers loads.
    """
    check_speaks(place)
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = _part_of(place, "tokenizer", AutoTokenizer)
    return tokenizer


def check_live(base: Located, tuned: Located | None = None) -> None:
    """Say before libraries are loaded that models cannot be made to answer.

    Args:
        base: A whole model.
        tuned: Another, or an adapter of it.

    Raises:
        CheckpointError: If files are missing: weights, config.json, or all of a tokenizer.
    """
    check_whole(base.path)
    if tuned is not None and not holds_adapter(tuned.path):
        check_whole(tuned.path)
    check_speaks(speaker(base, tuned))


def check_speaks(place: Located) -> None:
    """Say before libraries are loaded that a model has no tokenizer.

    Raises:
        CheckpointError: If there are no files of one.
    """
    mend = "Give a folder or hub name with config.json, tokenizer and safetensors weights."
    if not place.path.is_dir():
        raise CheckpointError(f"{place.given} is a file, which has no tokenizer beside it.", mend)
    if not has_tokenizer(place.path) and not (place.path / "tokenizer_config.json").is_file():
        raise CheckpointError(f"{place.given} has no tokenizer.", mend)


def _part_of(place: Located, what: str, loader: Any) -> Any:  # noqa: ANN401 - an auto class
    with read_by_transformers(f"The {what} of {place.given}"):
        return loader.from_pretrained(place.path, local_files_only=True, trust_remote_code=False)


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
    check_whole(place.path)
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


def dtype_called(name: str) -> torch.dtype:
    """The dtype of weights that a command or recipe names.

    Raises:
        InputError: If there is no such dtype.
    """
    import torch

    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in known:
        raise InputError(f"There is no dtype {name!r} here.", f"Choose from {', '.join(known)}.")
    return known[name]


def speaker(base: Located, tuned: Located | None) -> Located:
    """Whose tokenizer and chat template all modes speak with: the tuned model's where it has one.

    A fine-tune may have brought the template with it, and modes are compared on the same prompts.
    """
    if tuned is not None and (tuned.path / "tokenizer_config.json").is_file():
        return tuned
    return base


def end_tokens(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase
) -> frozenset[int]:
    """Tokens that end an answer: those that the model was saved with, and the tokenizer's."""
    config: Any = getattr(model, "generation_config", None)
    found: set[int] = set()
    for value in (getattr(config, "eos_token_id", None), tokenizer.eos_token_id):
        found |= {value} if isinstance(value, int) else set(value or ())
    return frozenset(found)
