"""The names of a live model's parameters, where those in its files are others.

Files of composite models (an image encoder beside a language model) keep the names of an older
version; transformers renames them on loading by a map of its own, which is asked here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any


@dataclass(frozen=True)
class LiveNames:
    """What transformers calls a model's parameters.

    Attributes:
        name: Name in a file → the live parameter's; a name of no parameter may stay as it is.
        modules: Path of every live module that holds parameters, itself or below it.
    """

    name: Callable[[str], str]
    modules: frozenset[str]

    def module(self, path: str) -> str:
        """The live path of a module, from its path in a file."""
        return self.name(f"{path}.weight").removesuffix(".weight")

    def has_module(self, path: str) -> bool:
        """Whether the live model has a module."""
        return path in self.modules


def live_names(config: Mapping[str, Any] | None) -> LiveNames | None:
    """The live names of the model that a ``config.json`` describes.

    ``None`` where the model is not composite, the config does not say which architecture it is, or
    transformers does not know that or is not installed: the names in files are then all there are.
    """
    if not config or not isinstance(config.get("text_config"), Mapping):
        return None
    return _asked(json.dumps(config, sort_keys=True)) if config.get("architectures") else None


@lru_cache(maxsize=4)
def _asked(text: str) -> LiveNames | None:
    try:
        import torch
        import transformers
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightRenaming, rename_source_key
    except ImportError:
        return None
    config = json.loads(text)
    kind: Any = getattr(transformers, str(config["architectures"][0]), None)
    try:
        with torch.device("meta"):
            model = kind._from_config(transformers.AutoConfig.for_model(**config))
    except Exception:
        return None
    known = model.state_dict()
    renamings = [
        each for each in get_model_conversion_mapping(model) if isinstance(each, WeightRenaming)
    ]
    prefix = model.base_model_prefix

    def rename(name: str) -> str:
        if name in known:
            return name
        found, _ = rename_source_key(name, renamings, [], prefix, known)
        return str(found)

    modules = {name[:end] for name in known for end, at in enumerate(name) if at == "."}
    return LiveNames(rename, frozenset(modules))
