"""What is tried: named modes, fractions of everything, methods of the literature, what is learnt.

A candidate says how many numbers in it were chosen by looking at the examples: none of a named
mode's, one of a fraction's, a method's parameters, every coefficient of a learned selection's. The
fewer, the simpler; a tie goes to the simpler.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to keep a part of the update.

    Attributes:
        name: What it is called.
        selection: What is kept, as `taia compose --keep` takes it.
        about: What it is, in a few plain words.
        numbers: How many numbers in it were chosen by looking.
        method: What is done to the update before the selection, as `taia compose --method` takes
            it; None where nothing is.
        is_learned: Whether its numbers were learned from the examples that it is searched on.
    """

    name: str
    selection: str
    about: str
    numbers: int = 0
    method: str | None = None
    is_learned: bool = False

    @property
    def identity(self) -> tuple[str, str | None]:
        """What its measurements depend on, beside the models and the examples."""
        return self.selection, self.method

    def to_json(self) -> dict[str, Any]:
        """As JSON values; without a method where there is none."""
        plain: dict[str, Any] = {"name": self.name, "selection": self.selection}
        return {**plain, **({"method": self.method} if self.method else {})}


BASE: Final = Candidate("base", "none", "the model before fine-tuning")
TUNED: Final = Candidate("tuned", "all", "the fine-tuned model as it is")
TAIA: Final = Candidate("taia", "taia", "all of the update but the feed-forward blocks'")

_NAMED: Final = (
    TAIA,
    Candidate("taif", "taif", "the feed-forward blocks' update alone"),
    Candidate("all - down_proj", "all - down_proj", "all of the update but down_proj's"),
)
_METHODS: Final = (
    ("lines:alpha=0.2", "LiNeS: little of early layers, all of late ones"),
    ("lines:alpha=0.6", "LiNeS: somewhat less of early layers"),
    ("magnitude:keep=0.2", "the largest fifth of each tensor's entries"),
    ("revert-largest:revert=0.05", "all but the largest twentieth of each tensor's entries"),
    ("dare:keep=0.5", "half of the entries at random, made twice as large"),
    ("intruder", "new directions of large weight, made smaller"),
    ("dg-hard", "only singular values above the noise"),
)


def line() -> Iterator[Candidate]:
    """Fractions of everything (WiSE-FT), from nine tenths down."""
    for tenth in range(9, 0, -1):
        share = f"{tenth / 10:g}"
        yield Candidate(f"{share} of all", f"{share}*all", f"{10 * tenth} % of the whole update", 1)


def share_of(candidate: Candidate) -> float | None:
    """The share of everything that a candidate of the line keeps; None of any other."""
    share, _, what = candidate.selection.partition("*")
    return float(share) if what == "all" and candidate.method is None else None


def candidates(is_adapter: bool) -> list[Candidate]:
    """What is tried without learning anything, the likeliest first.

    Args:
        is_adapter: Whether the update is an adapter; methods that mean nothing there are left out.
    """
    return [*_NAMED, *line(), *_methods(is_adapter)]


def _methods(is_adapter: bool) -> Iterator[Candidate]:
    from taia.methods import METHODS, Applied

    for text, about in _METHODS:
        if text.partition(":")[0] not in METHODS:
            continue
        method = Applied.parse(text)
        if method.method.needs or (is_adapter and method.method.not_on_adapters):
            continue
        first = next(iter(method.values.values()), None)
        title = method.method.title
        name = title if first is None else f"{title} {first:g}"
        numbers = max(1, len(method.values))
        yield Candidate(name, "all", about, numbers, str(method))
