"""A number for each tensor, as mergekit's filters say it.

mergekit takes the first of a list of ``{filter, value}`` whose filter occurs anywhere in a tensor's
name; an entry without a filter stands for the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

#: A part of names, ``None`` for any, and the value of the tensors that have it.
Filter = tuple[str | None, float]


def filters(values: Mapping[str, float]) -> list[Filter]:
    """The filters under which every tensor gets its value.

    Args:
        values: Tensor's name → value.
    """
    each = (_beside(rest, values) for rest in sorted(set(values.values())))
    return min(each, key=len)


def value_of(name: str, among: Sequence[Filter]) -> float:
    """The value that mergekit takes for a tensor."""
    return next(value for part, value in among if part is None or part in name)


def _beside(rest: float, values: Mapping[str, float]) -> list[Filter]:
    """Filters for all tensors but those with one value."""
    found: list[Filter] = []
    left = {name for name, value in values.items() if value != rest}
    while left:
        name = min(left)
        part = _part(name, values)
        if part is None:
            return _by_name(values)
        found.append((part, values[name]))
        left = {other for other in left if part not in other}
    return [*found, (None, rest)]


def _by_name(values: Mapping[str, float]) -> list[Filter]:
    """Every name in full, the longest first: none is then a part of one that comes after it."""
    return [(name, values[name]) for name in sorted(values, key=len, reverse=True)]


def _part(name: str, values: Mapping[str, float]) -> str | None:
    """The shortest run of a name's parts that no tensor with another value has, if any."""
    others = [other for other, value in values.items() if value != values[name]]
    return next((part for part in _runs(name) if not any(part in other for other in others)), None)


def _runs(name: str) -> Iterator[str]:
    parts = name.split(".")
    last = len(parts)
    for length in range(1, last + 1):
        for start in range(last - length + 1):
            run = ".".join(parts[start : start + length])
            yield ("." if start else "") + run + ("." if start + length < last else "")
