"""Large numbers, for people."""

from __future__ import annotations


def in_millions(count: int) -> str:
    """A count of parameters: ``"135 M"``, ``"7.24 B"``."""
    return _scaled(count, 1000, ("", " K", " M", " B", " T"))


def in_bytes(count: int) -> str:
    """A size: ``"269 MB"``, ``"14.5 GB"`` (powers of a thousand)."""
    return _scaled(count, 1000, (" B", " KB", " MB", " GB", " TB"))


def in_time(seconds: float) -> str:
    """A duration: ``"40 s"``, ``"12 min"``, ``"3.5 h"``, ``"2.1 days"``."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds:.0f} s"


def _scaled(count: int, step: int, units: tuple[str, ...]) -> str:
    value, last = float(count), units[-1]
    for unit in units:
        rounded = float(f"{value:.3g}")
        if rounded < step or unit is last:
            return f"{rounded:g}{unit}" if rounded < step else f"{value:.0f}{unit}"
        value /= step
    raise AssertionError(units)
