"""What many prompts begin with, run once in each mode.

Few-shot examples and the chat template's head are most of many tasks' prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import torch
from transformers import DynamicCache

from taia.runtime.columns import RoomyLayer
from taia.runtime.forward import Forward
from taia.runtime.generation import Generation
from taia.runtime.prefix import common

if TYPE_CHECKING:
    from taia.runtime.switchable import SwitchableModel

#: Tokens that prompts have to have in common for these to run by themselves.
_LEAST: Final = 8


class Heads:
    """What many prompts begin with, run once in each mode.

    Attributes:
        tokens: The tokens, none if there are too few.
    """

    def __init__(
        self, model: SwitchableModel, forward: Forward, requests: Sequence[Generation] = ()
    ) -> None:
        self._model = model
        self._forward = forward
        several = len(requests) > len({request.mode for request in requests})
        head = common([request.prompt for request in requests]) if several else ()
        self.tokens = head if len(head) >= _LEAST else ()
        self._caches: dict[str, DynamicCache] = {}

    def before(self, modes: Sequence[str], padding: Sequence[int]) -> DynamicCache:
        """What rows that are padded on the left go on from: as many columns as there are tokens.

        Of a row that is padded they are its padding and the beginning of the tokens. The rest of
        these has to run again, where the row would else have run padding.
        """
        cache = whole_cache()
        heads = [self._of(mode) for mode in modes] if self.tokens else []
        for number, layer in enumerate(heads[0].layers if heads else []):
            both = []
            for name in ("keys", "values"):
                states = [getattr(head.layers[number], name)[0] for head in heads]
                rows = getattr(layer, name).new_zeros(len(heads), *states[0].shape)
                for row, (own, pad) in enumerate(zip(states, padding, strict=True)):
                    rows[row, :, pad:] = own[:, : max(0, own.shape[1] - pad)]
                both.append(rows)
            cache.update(*both, number)
        return cache

    def _of(self, mode: str) -> DynamicCache:
        if mode not in self._caches:
            cache = whole_cache()
            with self._model.rows([mode]):
                self._forward(torch.tensor([self.tokens]), 1, cache, use_cache=True)
            self._caches[mode] = cache
        return self._caches[mode]


def whole_cache() -> DynamicCache:
    """An empty cache of all columns, also where attention has a window."""
    cache = DynamicCache()
    cache.layer_class_to_replicate = RoomyLayer
    return cache
