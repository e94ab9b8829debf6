"""What a result depends on, as hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from taia.checkpoint.adapters.read import read_adapter
from taia.checkpoint.folders import holds_adapter
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.locate import Located
from taia.checkpoint.output.manifest import identity

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def weights(place: Located) -> dict[str, str]:
    """SHA-256 of each of a model's or an adapter's files, its configuration among them.

    Every byte is read: a result that is kept must not be another model's.

    Raises:
        CheckpointError: If there is no model, or it is damaged.
        AdapterError: If it is an adapter that taia cannot read.
    """
    model = read_adapter(place.path) if holds_adapter(place.path) else Checkpoint.open(place.path)
    found = identity(place, model, full=True)
    return {file["name"]: file["sha256"] for file in found["files"]}


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of what a tokenizer does to a text, its chat template included."""
    inner = getattr(tokenizer, "backend_tokenizer", None)
    content = inner.to_str() if inner is not None else sorted(tokenizer.get_vocab().items())
    return digest(
        {
            "tokenizer": content,
            "special": {key: str(value) for key, value in tokenizer.special_tokens_map.items()},
            "chat_template": tokenizer.chat_template,
        }
    )


def digest(value: Mapping[str, Any]) -> str:
    """SHA-256 of JSON values, whatever the order of their keys."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
