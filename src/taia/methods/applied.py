"""A method and its parameters' values, as text and back: ``magnitude:keep=0.2``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from taia.anatomy.labels import Label
from taia.errors import MethodError
from taia.methods.method import Method, Parameter
from taia.methods.registry import find, quoted
from taia.text import closest

_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Applied:
    """A method with the values of its parameters.

    Attributes:
        method: The method.
        values: Every parameter's value, those that were not given at their defaults.

    Raises:
        MethodError: If there is no such parameter, or a value is none that it may have.
    """

    method: Method
    values: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name, value in self.values.items():
            parameter = _parameter(self.method, name)
            if fault := parameter.fault(value):
                raise self._wrong(parameter, value, fault)
        given = {
            parameter.name: _plain(self.values.get(parameter.name, parameter.default), parameter)
            for parameter in self.method.parameters
        }
        object.__setattr__(self, "values", MappingProxyType(given))

    def __reduce__(self) -> tuple[Callable[[str], Applied], tuple[str]]:
        return Applied.parse, (str(self),)

    @classmethod
    def of(cls, name: str, **values: float) -> Applied:
        """The method of a name with these values.

        Raises:
            MethodError: If there is no such method or parameter, or a value is out of its range.
        """
        return cls(find(name), values)

    @classmethod
    def parse(cls, text: str) -> Applied:
        """Reads ``NAME`` or ``NAME:key=value,key=value``.

        Raises:
            MethodError: If it cannot be read, there is no such method or parameter, or a value is
                no number or out of its range.
        """
        name, colon, rest = text.partition(":")
        method = find(name.strip())
        values: dict[str, float] = {}
        for part in rest.split(",") if colon else ():
            key, equals, number = (piece.strip() for piece in part.partition("="))
            if not equals or not key:
                raise MethodError(
                    f"The method {quoted(text)} has {quoted(part.strip())} where a parameter "
                    "should be.",
                    f"Write it as {_form(method)}.",
                )
            _parameter(method, key)
            if key in values:
                raise MethodError(
                    f"The method {quoted(text)} gives {key} twice.", "Give each parameter once."
                )
            if not _NUMBER.fullmatch(number):
                raise MethodError(
                    f"The method {quoted(text)} has {quoted(part.strip())}, which is not a number.",
                    f"Write it as {_form(method)}.",
                )
            values[key] = float(number)
        return cls(method, values)

    def __str__(self) -> str:
        """Text that reads back as the same, with every parameter."""
        told = (f"{name}={_shown(value)}" for name, value in self.values.items())
        return f"{self.method.name}:{','.join(told)}" if self.values else self.method.name

    def scale(self, label: Label, depth: int) -> float:
        """What a tensor's α is multiplied with: 1 for one that a formula is applied to.

        Args:
            label: What the tensor is.
            depth: How many layers its stack has.
        """
        if self.method.scale is not None:
            return self.method.scale(label, depth, **self.values)
        return 1.0 if self.method.concerns(label) else self.method.elsewhere

    def calculates(self, label: Label) -> bool:
        """Whether a tensor's numbers must be read and calculated with."""
        return self.method.scale is None and self.method.concerns(label)

    def _wrong(self, parameter: Parameter, value: object, fault: str) -> MethodError:
        shown = _shown(float(value)) if isinstance(value, float) else quoted(value)
        return MethodError(
            f"{parameter.name} of the method {self.method.name} is {shown}, {fault}.",
            f"Give {parameter.range}: {parameter.about}.",
        )


def _parameter(method: Method, name: str) -> Parameter:
    """A method's parameter of a name.

    Raises:
        MethodError: If it has none; it names the nearest and how to write the method.
    """
    known = {parameter.name: parameter for parameter in method.parameters}
    if name in known:
        return known[name]
    near = closest(name, known)
    meant = f"Did you mean {near}? " if near else ""
    raise MethodError(
        f"The method {method.name} has no parameter {quoted(name)}.",
        f"{meant}Write it as {_form(method)}.",
    )


def _form(method: Method) -> str:
    """How to write a method, with the defaults of what it takes."""
    taken = ",".join(f"{p.name}={_shown(p.default)}" for p in method.parameters)
    return f"{method.name}:{taken}" if taken else method.name


def _plain(value: float, parameter: Parameter) -> float:
    return int(value) if parameter.whole else float(value)


def _shown(value: float) -> str:
    return repr(value).removesuffix(".0")
