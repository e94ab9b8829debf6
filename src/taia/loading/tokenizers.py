"""A model's tokenizer, and what it says of where answers end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taia.checkpoint.locate import Located
from taia.loading.reading import read_by_transformers

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def speaker(base: Located, tuned: Located | None) -> Located:
    """Whose tokenizer and chat template all modes speak with: the tuned model's where it has one.

    A fine-tune may have brought the template with it, and modes are compared on the same prompts.
    """
    if tuned is not None and (tuned.path / "tokenizer_config.json").is_file():
        return tuned
    return base


def load_tokenizer(place: Located) -> PreTrainedTokenizerBase:
    """A model's tokenizer.

    Raises:
        CheckpointError: If there is none that transformers loads.
    """
    from transformers import AutoTokenizer

    with read_by_transformers(f"The tokenizer of {place.given}"):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            place.path, local_files_only=True, trust_remote_code=False
        )
    return tokenizer


def end_tokens(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase
) -> frozenset[int]:
    """Tokens that end an answer: those that the model was saved with, and the tokenizer's."""
    config: Any = getattr(model, "generation_config", None)
    found: set[int] = set()
    for value in (getattr(config, "eos_token_id", None), tokenizer.eos_token_id):
        found |= {value} if isinstance(value, int) else set(value or ())
    return frozenset(found)
