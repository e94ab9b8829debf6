"""A live model from a folder or a hub name, by transformers: no network for paths, no pickle.

And where taia keeps what it fetched or made, and could make again; and libraries kept off the
terminal, which has bars and words of our own.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from taia.checkpoint.locate import Located
from taia.errors import CheckpointError, InputError, first_line

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


def cache_folder() -> Path:
    """Where taia keeps what it fetched."""
    if own := os.environ.get("TAIA_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "taia"


def speaker(base: Located, tuned: Located | None) -> Located:
    """Whose tokenizer and chat template all modes speak with: the tuned model's where it has one.

    A fine-tune may have brought the template with it, and modes are compared on the same prompts.
    """
    if tuned is not None and (tuned.path / "tokenizer_config.json").is_file():
        return tuned
    return base


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' own bars and notes off the terminal, for a while."""
    import datasets
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    data_bars = datasets.are_progress_bars_disabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
        if not data_bars:
            datasets.enable_progress_bars()


def load_tokenizer(place: Located) -> PreTrainedTokenizerBase:
    """A model's tokenizer.

    Raises:
        CheckpointError: If there is none that transformers loads.
    """
    from transformers import AutoTokenizer

    with _told(f"{place.given} has no tokenizer that transformers loads"):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            place.path, local_files_only=True, trust_remote_code=False
        )
    return tokenizer


def load_config(place: Located) -> PreTrainedConfig:
    """A model's configuration.

    Raises:
        CheckpointError: If there is none that transformers knows.
    """
    from transformers import AutoConfig

    with _told(f"{place.given} has no config.json that transformers knows"):
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            place.path, local_files_only=True, trust_remote_code=False
        )
    return config


def end_tokens(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase
) -> frozenset[int]:
    """Tokens that end an answer: those that the model was saved with, and the tokenizer's."""
    config: Any = getattr(model, "generation_config", None)
    found: set[int] = set()
    for value in (getattr(config, "eos_token_id", None), tokenizer.eos_token_id):
        found |= {value} if isinstance(value, int) else set(value or ())
    return frozenset(found)


def load_model(
    place: Located, dtype: torch.dtype | Literal["auto"], **options: object
) -> PreTrainedModel:
    """A causal language model with all its weights.

    Args:
        place: Where it lies.
        dtype: Of its weights in memory; ``"auto"`` for what they have on disk.
        **options: Further ones of ``from_pretrained``.

    Raises:
        CheckpointError: If transformers does not load it, or weights are missing.
    """
    from transformers import AutoModelForCausalLM

    with _told(f"{place.given} is not a model that transformers loads"):
        model, report = cast("Any", AutoModelForCausalLM).from_pretrained(
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
            "Give the complete model of a causal language model.",
        )
    # PEFT writes it into the adapter as the base to load.
    model.name_or_path = place.repo or str(place.path.resolve())
    loaded: PreTrainedModel = model
    return loaded


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


@contextmanager
def _told(problem: str) -> Iterator[None]:
    """What transformers raises of a folder's files, as an error that names the folder."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"{problem}: {first_line(error)}.",
            "Give a folder or hub name with config.json, tokenizer and safetensors weights.",
        ) from error
