"""Which mode a KV cache was filled in: in another one its keys and values are wrong.

The cache itself carries the mark, so that its copies do too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from taia.errors import RunError
from taia.selection import Alpha

if TYPE_CHECKING:
    from transformers import Cache

#: The α of each part of the update; one such for all rows, or one for each.
Filling: TypeAlias = tuple[tuple[Alpha, ...], ...]

_MARK: Final = "_taia_filling"
#: What architectures call their cache.
_NAMES: Final = ("past_key_values", "cache_params")


def caches_in(values: Mapping[str, Any]) -> list[Cache]:
    """The caches among a forward pass's arguments, or in its output."""
    from transformers import Cache

    found = (values.get(name) for name in _NAMES)
    return [cache for cache in found if isinstance(cache, Cache)]


def mark(cache: Cache, filling: Filling) -> None:
    """Remember in which mode a cache is being filled."""
    setattr(cache, _MARK, filling)


def check(cache: Cache, filling: Filling) -> None:
    """Refuse a cache that was filled in another mode. One that is empty fits every mode.

    Raises:
        RunError: If it was filled in another.
    """
    before: Filling = getattr(cache, _MARK, filling)
    if before == filling or _of_each(before, filling) == filling or _is_empty(cache):
        return
    raise RunError(
        "The KV cache was filled in another mode.",
        "Begin a new cache in each mode; if its rows were exchanged, say so with model.filled().",
    )


def _of_each(before: Filling, filling: Filling) -> Filling:
    """A cache that was filled in one mode has it in every row."""
    return before * len(filling) if len(before) == 1 else before


def _is_empty(cache: Cache) -> bool:
    try:
        return int(cache.get_seq_length()) == 0
    except ValueError:  # recurrent states only: they tell no length
        return False
