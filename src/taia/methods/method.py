"""What a method is: its source, its parameters, what it needs, and its formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, TypeAlias

from taia.anatomy.labels import Label

#: Which tensors a formula is for: all; matrices, an expert's too; or only those inside layers.
Scope: TypeAlias = Literal["tensors", "matrices", "layers"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number that a method takes.

    Attributes:
        name: What it goes by.
        default: What it is unless given.
        low: The least it may be.
        high: The most it may be.
        about: What it is, in a few words.
        above: Whether it must be more than the least.
        whole: Whether it counts something.
    """

    name: str
    default: float
    low: float
    high: float
    about: str
    above: bool = False
    whole: bool = False

    @property
    def range(self) -> str:
        """What it may be, in words."""
        kind = "a whole number" if self.whole else "a number"
        if math.isinf(self.high):
            return f"{kind} {'above' if self.above else 'of at least'} {self.low:g}"
        low = f"above {self.low:g} and up to" if self.above else f"from {self.low:g} to"
        return f"{kind} {low} {self.high:.15g}"

    def fault(self, value: object) -> str | None:
        """What is wrong with a value, to be said after it; ``None`` where nothing is."""
        if isinstance(value, bool) or not isinstance(value, Real) or value != value:
            return "which is not a number"
        number: Any = value  # numbers.Real has no order for type checkers
        inside = self.low < number if self.above else self.low <= number
        if not inside or number > self.high or number in (math.inf, -math.inf):
            return "which is out of its range"
        return "which is not a whole number" if self.whole and number != int(number) else None


@dataclass(frozen=True, slots=True)
class Method:
    """A formula on Δ, and what there is to know of it.

    Attributes:
        name: What it goes by.
        title: What people call it.
        source: Its authors and where it was published.
        formula: f(Δ) of one tensor, in one line.
        basis: What was read of the source: its code, its text, or only its abstract.
        parameters: What it takes.
        scope: Which tensors its formula is for.
        elsewhere: The α that other tensors' is multiplied with: 1 keeps them whole, 0 takes them
            back to the base.
        needs: What it must be given beside base and tuned: statistics of calibration rows by their
            names (:data:`taia.methods.given.STATISTICS`), or ``"unaligned"``.
        reads_base: Whether it reads W_base.
        not_on_adapters: Why it means nothing on an adapter, ``""`` where it does.
        scale: The formula, if it is a number for each place.
        entries: The formula, if it is of a tensor's entries.
        spectrum: The formula, if it is of singular values and vectors.
    """

    name: str
    title: str
    source: str
    formula: str
    basis: str
    parameters: tuple[Parameter, ...]
    scope: Scope = "tensors"
    elsewhere: float = 1.0
    needs: tuple[str, ...] = ()
    reads_base: bool = False
    not_on_adapters: str = ""
    scale: Callable[..., float] | None = None
    entries: Callable[..., Any] | None = None
    spectrum: Callable[..., Any] | None = None

    def concerns(self, label: Label) -> bool:
        """Whether the formula is for a tensor; others go by :attr:`elsewhere`."""
        if self.scope == "tensors":
            return True
        inside = label.layer is not None or self.scope == "matrices"
        return inside and (is_matrix(label) or is_stack(label))


def is_matrix(label: Label) -> bool:
    """Whether a tensor is a matrix: two axes, and not the biases of several experts."""
    shape = label.tensor.shape
    return shape is not None and len(shape) == 2 and not label.tensor.name.endswith("bias")


def is_stack(label: Label) -> bool:
    """Whether a tensor is a matrix for each expert, which formulas take one by one."""
    shape = label.tensor.shape
    return shape is not None and len(shape) == 3 and label.component == "experts"
