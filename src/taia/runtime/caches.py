"""What a forward pass goes on from: what upstream calls it, and in which mode it was filled.

In another mode the keys and values of a cache are wrong. The cache itself carries the mark, so that
its copies do too. Caches are known by their type, wherever they come in; by its name only a state
that has no type of its own, a list of tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from inspect import Parameter
from typing import Any, Final, TypeAlias

from taia.errors import RunError
from taia.selection import Alpha

#: The α of each part of the update, and a method where there is one; one such for all rows, or one
#: for each.
Filling: TypeAlias = tuple[tuple[Alpha | str, ...], ...]

#: What architectures call the cache that they are given and give back, the newest name first:
#: transformers 5.24 made one of two, and takes the older names until 5.40.
CACHES: Final = ("cache", "past_key_values", "cache_params")

#: What they call a state that is a list of tensors (RWKV, XLNet).
STATES: Final = frozenset({"state", "mems"})

#: What a class has to have to be used as a cache, whatever it is called.
_METHODS: Final = ("update", "get_seq_length")

_MARK: Final = "_taia_filling"
_DEEPEST: Final = 4  # containers one inside another; a cache of caches in the arguments is three


def cache_name(parameters: Iterable[str]) -> str:
    """What a forward pass calls its cache, given the names of its parameters."""
    known = set(parameters)
    return next((name for name in CACHES if name in known), CACHES[0])


def caches_named(parameters: Mapping[str, Parameter]) -> tuple[str, ...]:
    """The parameters of a module's pass that a cache or a state may be given as."""
    return tuple(
        name
        for name, parameter in parameters.items()
        if name in CACHES or name in STATES or "Cache" in str(parameter.annotation)
    )


def cache_of(output: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any architecture's cache
    """The cache in a forward pass's output, ``None`` if there is none."""
    # Not by output.past_key_values, which upstream answers with a warning.
    return next((output[key] for key in tuple(output) if key in CACHES), None)


def states_of(output: Mapping[str, Any]) -> dict[str, Any]:
    """The states in a forward pass's output that are no cache, by their parameter's name."""
    return {key: output[key] for key in tuple(output) if key in STATES and output[key] is not None}


def caches_in(values: object, depth: int = _DEEPEST) -> Iterator[Any]:
    """The caches among a forward pass's arguments, or in its output.

    Args:
        values: Arguments, by place or by name; or an output.
        depth: How deep containers may lie in one another.
    """
    if _is_cache(values):
        yield values
        yield from _caches_of(values)
    elif depth and isinstance(values, Mapping):
        for key in tuple(values):
            yield from caches_in(values[key], depth - 1)
            if key in STATES:
                yield from _tensors(values[key])
    elif depth and isinstance(values, (list, tuple)):
        for value in values:
            yield from caches_in(value, depth - 1)


def mark(cache: Any, filling: Filling) -> None:  # noqa: ANN401 - any architecture's cache
    """Remember in which mode a cache is being filled.

    Raises:
        RunError: If it cannot carry the mark.
    """
    try:
        setattr(cache, _MARK, filling)
    except AttributeError as error:
        raise RunError(
            f"A cache of the class {type(cache).__name__} takes no mark of its mode.",
            "Give its class no __slots__ and no __setattr__ that refuses, or use transformers' own "
            "caches.",
        ) from error


def check(cache: Any, filling: Filling) -> None:  # noqa: ANN401 - any architecture's cache
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


def _is_cache(value: object) -> bool:
    kind: Any = type(value)  # a class can be hashed, which mypy does not know
    return _is_kind_of_cache(kind)


@lru_cache(maxsize=256)  # asked of every argument of every layer
def _is_kind_of_cache(kind: Any) -> bool:  # noqa: ANN401 - any class
    """Transformers' class of caches, those beside it (xLSTM's), and what is used as one."""
    return any(base.__name__.endswith("Cache") for base in kind.__mro__) or all(
        callable(getattr(kind, name, None)) for name in _METHODS
    )


def _caches_of(cache: object) -> list[Any]:
    """The two of an encoder and a decoder, of the cache that holds both."""
    return [part for part in getattr(cache, "__dict__", {}).values() if _is_cache(part)]


def _tensors(value: object) -> Iterator[Any]:
    from torch import Tensor

    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _tensors(one)


def _of_each(before: Filling, filling: Filling) -> Filling:
    """A cache that was filled in one mode has it in every row."""
    return before * len(filling) if len(before) == 1 else before


def _is_empty(cache: Any) -> bool:  # noqa: ANN401 - any architecture's cache
    """Whether no layer holds anything, neither keys and values nor a recurrent state."""
    if not hasattr(cache, "get_seq_length") or not hasattr(cache, "layers"):
        parts = _caches_of(cache)
        return bool(parts) and all(map(_is_empty, parts))
    return not any(_holds(layer) for layer in cache.layers)


def _holds(layer: Any) -> bool:  # noqa: ANN401 - any kind of a cache's layer
    states = getattr(layer, "has_previous_state", {})
    length = getattr(layer, "get_seq_length", lambda: 0)
    return any(states.values()) or int(length()) > 0
