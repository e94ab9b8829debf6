"""What the live model calls its parameters, where files call them otherwise.

Checkpoints and older adapters of composite models (an image encoder beside a language model) have
other names than the model that transformers makes of them; transformers renames them on loading by
a map of its own, which is asked here. PEFT targets modules by the live model's names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from taia.checkpoint.adapters.names import PREFIX, Part

if TYPE_CHECKING:
    from taia.checkpoint.adapters.read import Adapter, Update

Rename = Callable[[str], str]


def is_composite(config: Mapping[str, Any] | None) -> bool:
    """Whether a config describes a language model as one part of several."""
    return config is not None and isinstance(config.get("text_config"), Mapping)


def live_name(config: Mapping[str, Any] | None) -> Rename:
    """What gives a live parameter's name, from its name in a file.

    Args:
        config: The base's. Where it says nothing of the architecture, or transformers does not know
            it or is not installed, names stay as they are.
    """
    if not config or not config.get("architectures"):
        return _same
    return _asked(json.dumps(config, sort_keys=True))


def with_live_names(adapter: Adapter, rename: Rename) -> Adapter:
    """An adapter whose updates go by the live model's names."""
    updates = tuple(_renamed(update, rename) for update in adapter.updates)
    routed = frozenset(_module(module, rename) for module in adapter.routed)
    return replace(adapter, updates=updates, routed=routed)


def _same(name: str) -> str:
    return name


@lru_cache(maxsize=4)
def _asked(text: str) -> Rename:
    try:
        import torch
        import transformers
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightRenaming, rename_source_key
    except ImportError:
        return _same
    config = json.loads(text)
    kind: Any = getattr(transformers, str(config["architectures"][0]), None)
    try:
        with torch.device("meta"):
            model = kind._from_config(transformers.AutoConfig.for_model(**config))
    except Exception:
        return _same
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

    return rename


def _module(module: str, rename: Rename) -> str:
    return rename(f"{module}.weight").removesuffix(".weight")


def _renamed(update: Update, rename: Rename) -> Update:
    module = _module(update.module, rename)
    if module == update.module:
        return update
    leaf = update.parameter.removeprefix(update.module)
    wrapper = update.wrapper
    if wrapper is not None:
        inside = update.module.removeprefix(wrapper)
        wrapper = module.removesuffix(inside)
    parts = {kind: _part(part, module) for kind, part in update.parts.items()}
    return replace(update, module=module, parameter=f"{module}{leaf}", parts=parts, wrapper=wrapper)


def _part(part: Part, module: str) -> Part:
    tail = part.name.removeprefix(f"{PREFIX}{part.module}")
    return replace(part, module=module, name=f"{PREFIX}{module}{tail}")
