"""Methods as text: found by name, read, checked, printed and read back."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taia.errors import InputError, MethodError
from taia.methods import METHODS, Applied, find


def test_a_method_is_found_by_its_name() -> None:
    assert [find(name).name for name in METHODS] == list(METHODS)


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_every_method_says_what_it_is(method) -> None:
    assert sum(shape is not None for shape in (method.scale, method.entries, method.spectrum)) == 1
    assert all((method.title, method.source, method.formula, method.basis))
    for parameter in method.parameters:
        assert parameter.fault(parameter.default) is None
        assert parameter.about


@pytest.mark.parametrize("name", METHODS)
def test_defaults_are_filled_in_and_printed(name: str) -> None:
    applied = Applied.parse(name)
    wanted = {parameter.name: parameter.default for parameter in find(name).parameters}
    assert dict(applied.values) == wanted
    assert Applied.parse(str(applied)) == applied == Applied.of(name, **wanted)
    assert all(f"{key}=" in str(applied) for key in wanted)


@given(keep=st.floats(0, 1, exclude_min=True), seed=st.integers(0, 2**32 - 1))
def test_what_is_printed_reads_back(keep: float, seed: int) -> None:
    applied = Applied.of("dare", keep=keep, seed=seed)
    assert Applied.parse(str(applied)) == applied
    assert hash(Applied.parse(str(applied))) == hash(applied)
    assert applied.values == {"keep": keep, "seed": seed}


def test_values_do_not_depend_on_how_they_are_written() -> None:
    written = ("dare:keep=0.5,seed=7", " dare : seed = 7.0 , keep=.5 ", "dare:seed=+7,keep=5e-1")
    assert {Applied.parse(text) for text in written} == {Applied.of("dare", keep=0.5, seed=7)}
    assert Applied.of("dare", keep=np.float64(0.5)) == Applied.parse("dare")
    assert str(Applied.of("dare", seed=np.int64(3))) == "dare:keep=0.5,seed=3"


@pytest.mark.parametrize(
    ("text", "problem", "mend"),
    [
        ("magnitud:keep=0.2", "no method 'magnitud'", "Did you mean magnitude?"),
        ("DARE", "no method 'DARE'", "Did you mean dare?"),
        ("wise_ft", "no method 'wise_ft'", "Did you mean wise-ft?"),
        ("revert", "no method 'revert'", "Did you mean revert-largest?"),
        ("quux", "no method 'quux'", "Methods are: wise-ft, lines,"),
        ("", "no method ''", "Methods are:"),
        ("magnitude:kep=0.2", "no parameter 'kep'", "Did you mean keep? Write it as magnitude:"),
        ("lines:beta=x", "no parameter 'beta'", "Write it as lines:alpha=0.5"),
        ("magnitude:keep=1.5", "is 1.5, which is out of its range", "a number from 0 to 1"),
        ("magnitude:keep=-1e-9", "is -1e-09, which is out of its range", "from 0 to 1"),
        ("magnitude:keep=1e999", "out of its range", "from 0 to 1"),
        ("dare:keep=0", "keep of the method dare is 0, which is out", "above 0 and up to 1"),
        ("dare:seed=-1", "out of its range", "a whole number from 0 to 4294967295"),
        ("dare:seed=4294967296", "out of its range", "a whole number from 0 to 4294967295"),
        ("dare:seed=1.5", "is 1.5, which is not a whole number", "a whole number"),
        ("dare:seed=" + "9" * 5000, "out of its range", "a whole number"),
        ("magnitude:keep=lots", "'keep=lots', which is not a number", "magnitude:keep=0.2"),
        ("magnitude:keep=nan", "'keep=nan', which is not a number", "magnitude:keep=0.2"),
        ("magnitude:keep=inf", "'keep=inf', which is not a number", "magnitude:keep=0.2"),
        ("magnitude:keep=20%", "'keep=20%', which is not a number", "magnitude:keep=0.2"),
        ("magnitude:keep=0_2", "'keep=0_2', which is not a number", "magnitude:keep=0.2"),
        ("magnitude:keep=٣", "which is not a number", "magnitude:keep=0.2"),
        ("magnitude:keep=", "'keep=', which is not a number", "magnitude:keep=0.2"),
        ("magnitude:keep=1,keep=1", "gives keep twice", "once"),
        ("magnitude:keep", "'keep' where a parameter should be", "magnitude:keep=0.2"),
        ("magnitude:", "'' where a parameter should be", "magnitude:keep=0.2"),
        ("magnitude:keep=1,", "'' where a parameter should be", "magnitude:keep=0.2"),
        ("magnitude:=1", "'=1' where a parameter should be", "magnitude:keep=0.2"),
        ("magnitude:keep=1:seed=2", "'keep=1:seed=2', which is not a number", "magnitude:keep=0.2"),
    ],
)
def test_what_is_wrong_is_named_with_its_mend(text: str, problem: str, mend: str) -> None:
    with pytest.raises(MethodError) as caught:
        Applied.parse(text)
    assert problem in caught.value.problem
    assert mend in caught.value.mend
    assert isinstance(caught.value, InputError)


@pytest.mark.parametrize("value", [float("nan"), True, "0.2", None, 1j, [0.2]])
def test_from_python_only_numbers_are_taken(value: object) -> None:
    with pytest.raises(MethodError, match="not a number"):
        Applied.of("magnitude", keep=value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), 10**400, 2, np.float32(1.5)])
def test_from_python_ranges_hold(value: float) -> None:
    with pytest.raises(MethodError, match="out of its range"):
        Applied.of("magnitude", keep=value)


def test_it_goes_to_another_process_and_back() -> None:
    applied = Applied.parse("dare:keep=0.25,seed=9")
    assert pickle.loads(pickle.dumps(applied)) == copy.deepcopy(applied) == applied


def test_values_cannot_be_changed_afterwards() -> None:
    with pytest.raises(TypeError):
        Applied.parse("dare").values["keep"] = 2  # type: ignore[index]


@given(st.text() | st.from_regex(r"(dare|magnitude|intruder):[a-z_]{0,9}=?[-+.0-9a-z]{0,9},?"))
def test_whatever_is_typed_is_read_or_refused_in_two_lines(text: str) -> None:
    try:
        told = str(Applied.parse(text))
    except MethodError as error:
        told = str(error)
        lines = 2
    else:
        lines = 1
        assert Applied.parse(told) == Applied.parse(text)
    assert len(told.splitlines()) == lines
    assert told.replace("\n", "").isprintable()
    assert len(told) < 600
