"""Laws that hold for every selection, checked row by row on real anatomies.

Factors are eighths, so that no law is blurred by rounding.
"""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from anatomies import alphas, gpt2, gpt_oss, llama, moe, phi3, rows
from taia.anatomy import COMPONENTS, Anatomy
from taia.errors import SelectionError
from taia.selection import Alpha, Pieces

LLAMA = llama()
ANATOMIES = {"llama": LLAMA, "gpt2": gpt2(), "phi3": phi3(), "moe": moe(), "gpt_oss": gpt_oss()}

Rows = dict[str, list[float]]


def weighed(selection: str, anatomy: Anatomy) -> Rows:
    """α of every row, along the axis that divides."""
    found = alphas(selection, anatomy)
    return {name: _rows(alpha, anatomy, name) for name, alpha in found.items()}


def _rows(alpha: Alpha, anatomy: Anatomy, name: str) -> list[float]:
    label = anatomy[name]
    return rows(alpha, label.tensor.shape or (1,), label.layout.axis if label.layout else 0)


# Parts that match something in every one of the anatomies.
_LEAVES = st.sampled_from(
    """
    all none base tuned taia taif taia-strict taia-qkvo attention mlp attention.o_proj q_proj k_proj
    v_proj up_proj gate_proj re:"bias" re:"weight" re:"mlp" all[0] attention[0] mlp[-1]
    q_proj[:,0] attention[0,1:] attention[:,:2] (q_proj+o_proj)[:,3]
    """.split()
)
_FACTORS = st.integers(0, 8).map(lambda eighths: eighths / 8)
_LARGE = st.integers(8, 24).map(lambda eighths: eighths / 8)


def _pairs(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, st.sampled_from("+-"), inner).map(lambda t: f"({t[0]}) {t[1]} ({t[2]})"),
        st.tuples(_FACTORS, inner).map(lambda t: f"{t[0]}*({t[1]})"),
    )


#: Selections whose α lies between 0 and 1.
SELECTIONS = st.recursive(_LEAVES, _pairs, max_leaves=5)
#: And those where it may lie above.
ANY = SELECTIONS | st.tuples(_LARGE, SELECTIONS).map(lambda t: f"{t[0]}*({t[1]})")


@st.composite
def anatomies(draw: st.DrawFn) -> Anatomy:
    return ANATOMIES[draw(st.sampled_from(sorted(ANATOMIES)))]


def _fit(anatomy: Anatomy, *selections: str) -> None:
    """Keeps to selections that match something: the others are errors, tested elsewhere."""
    for selection in selections:
        try:
            alphas(selection, anatomy)
        except SelectionError:
            assume(False)


# --- sums and differences -------------------------------------------------------------------------


@given(anatomies(), ANY, ANY)
def test_plus_is_the_larger_row_by_row(anatomy: Anatomy, a: str, b: str) -> None:
    _fit(anatomy, a, b)
    left, right = weighed(a, anatomy), weighed(b, anatomy)
    larger = {n: [x if x > y else y for x, y in zip(left[n], right[n], strict=True)] for n in left}
    assert weighed(f"({a}) + ({b})", anatomy) == larger


@given(anatomies(), ANY, ANY)
def test_minus_is_what_remains_row_by_row(anatomy: Anatomy, a: str, b: str) -> None:
    _fit(anatomy, a, b)
    left, right = weighed(a, anatomy), weighed(b, anatomy)
    remains = {
        n: [x - y if x > y else 0.0 for x, y in zip(left[n], right[n], strict=True)] for n in left
    }
    assert weighed(f"({a}) - ({b})", anatomy) == remains


@given(anatomies(), ANY, ANY, ANY)
def test_plus_is_idempotent_commutative_associative(
    anatomy: Anatomy, a: str, b: str, c: str
) -> None:
    _fit(anatomy, a, b, c)
    assert alphas(f"({a}) + ({a})", anatomy) == alphas(a, anatomy)
    assert alphas(f"({a}) + ({b})", anatomy) == alphas(f"({b}) + ({a})", anatomy)
    left, right = f"(({a}) + ({b})) + ({c})", f"({a}) + (({b}) + ({c}))"
    assert alphas(left, anatomy) == alphas(right, anatomy)


@given(anatomies(), ANY)
def test_none_is_neutral(anatomy: Anatomy, a: str) -> None:
    _fit(anatomy, a)
    for same in (f"({a}) + none", f"none + ({a})", f"({a}) - none"):
        assert alphas(same, anatomy) == alphas(a, anatomy)
    assert alphas(f"none - ({a})", anatomy) == alphas("none", anatomy)


@given(anatomies(), ANY)
def test_nothing_remains_of_itself(anatomy: Anatomy, a: str) -> None:
    _fit(anatomy, a)
    assert alphas(f"({a}) - ({a})", anatomy) == alphas("none", anatomy)


@given(anatomies(), SELECTIONS)
def test_all_takes_everything_away_up_to_one(anatomy: Anatomy, a: str) -> None:
    _fit(anatomy, a)
    assert alphas(f"({a}) - all", anatomy) == alphas("none", anatomy)


@given(anatomies(), ANY, ANY, ANY)
def test_removing_in_turn_is_removing_in_any_order(
    anatomy: Anatomy, a: str, b: str, c: str
) -> None:
    _fit(anatomy, a, b, c)
    left, right = f"({a}) - ({b}) - ({c})", f"({a}) - ({c}) - ({b})"
    assert alphas(left, anatomy) == alphas(right, anatomy)


@given(anatomies(), _FACTORS | _LARGE, ANY, ANY, st.sampled_from("+-"))
def test_factors_distribute(anatomy: Anatomy, k: float, a: str, b: str, sign: str) -> None:
    _fit(anatomy, a, b)
    left, right = f"{k}*(({a}) {sign} ({b}))", f"{k}*({a}) {sign} {k}*({b})"
    assert alphas(left, anatomy) == alphas(right, anatomy)


@given(anatomies(), _FACTORS | _LARGE, ANY)
def test_a_factor_multiplies_every_row(anatomy: Anatomy, k: float, a: str) -> None:
    _fit(anatomy, a)
    expected = {n: [k * x for x in values] for n, values in weighed(a, anatomy).items()}
    assert weighed(f"{k}*({a})", anatomy) == expected
    assert weighed(f"({a})*{k}", anatomy) == expected


# --- wholes and parts -----------------------------------------------------------------------------


@pytest.mark.parametrize("anatomy", ANATOMIES.values(), ids=ANATOMIES)
def test_all_is_the_union_of_the_components(anatomy: Anatomy) -> None:
    present = {label.component for label in anatomy.values()}
    assert present <= set(COMPONENTS)
    assert alphas(" + ".join(sorted(present)), anatomy) == alphas("all", anatomy)
    assert set(alphas("all", anatomy).values()) == {1.0}


@pytest.mark.parametrize("anatomy", ANATOMIES.values(), ids=ANATOMIES)
def test_taia_and_taif_are_tuned_in_two(anatomy: Anatomy) -> None:
    taia, taif = alphas("taia", anatomy), alphas("taif", anatomy)
    assert alphas("taia + taif", anatomy) == alphas("tuned", anatomy)
    assert {(taia[name], taif[name]) for name in anatomy} == {(1.0, 0.0), (0.0, 1.0)}


@given(anatomies(), ANY)
def test_pieces_are_consecutive_cover_the_axis_and_differ(anatomy: Anatomy, a: str) -> None:
    _fit(anatomy, a)
    found = alphas(a, anatomy)
    assert list(found) == list(anatomy)
    for name, alpha in found.items():
        if isinstance(alpha, Pieces):
            size = (anatomy[name].tensor.shape or ())[alpha.axis]
            at = 0
            before = None
            for start, stop, value in alpha.pieces:
                assert at == start < stop
                assert value != before
                at, before = stop, value
            assert at == size
            assert len(alpha.pieces) > 1


# --- slices ---------------------------------------------------------------------------------------

_INDEX = st.none() | st.integers(-6, 6)
_SLICES = st.tuples(_INDEX, _INDEX, st.none() | st.integers(-3, 3).filter(bool))
Slice = tuple[int | None, int | None, int | None]


def _text(bounds: Slice) -> str:
    start, stop, step = ("" if x is None else str(x) for x in bounds)
    return f"{start}:{stop}:{step}" if step else f"{start}:{stop}"


def _kept_layers(selection: str) -> set[int | None]:
    try:
        found = alphas(selection, LLAMA)
    except SelectionError:
        return set()
    names = [name for name in LLAMA if LLAMA[name].component == "mlp"]
    assert all(not alpha for name, alpha in found.items() if name not in names)
    return {LLAMA[name].layer for name in names if found[name] == 1.0}


@given(_SLICES)
def test_layers_are_pythons_slices(bounds: Slice) -> None:
    assert _kept_layers(f"mlp[{_text(bounds)}]") == set(list(range(4))[slice(*bounds)])


@given(st.integers(-6, 6))
def test_one_layer_is_pythons_index(index: int) -> None:
    expected = {list(range(4))[index]} if -4 <= index < 4 else set()
    assert _kept_layers(f"mlp[{index}]") == expected


@given(_SLICES, _SLICES)
def test_slices_of_slices_intersect(outer: Slice, inner: Slice) -> None:
    layers = list(range(4))
    expected = set(layers[slice(*outer)]) & set(layers[slice(*inner)])
    assert _kept_layers(f"mlp[{_text(inner)}][{_text(outer)}]") == expected


@given(_SLICES, st.sampled_from(["q_proj", "o_proj"]))
def test_heads_are_pythons_slices(bounds: Slice, projection: str) -> None:
    heads = list(range(4))[slice(*bounds)]
    expected = [float(row // 2 in heads) for row in range(8)]
    selection = f"{projection}[2, {_text(bounds)}]"
    if not heads:
        with pytest.raises(SelectionError, match="matches none"):
            alphas(selection, LLAMA)
        return
    found = weighed(selection, LLAMA)
    for name, values in found.items():
        here = name == f"model.layers.2.self_attn.{projection}.weight"
        assert values == (expected if here else [0.0] * len(values))


@given(_SLICES, st.sampled_from(["k_proj", "v_proj"]))
def test_shared_heads_need_all_they_serve(bounds: Slice, projection: str) -> None:
    heads = set(list(range(4))[slice(*bounds)])
    served = {0: {0, 1}, 1: {2, 3}}
    expected = [float(served[row // 2] <= heads) for row in range(4)]
    try:
        found = weighed(f"{projection}[2, {_text(bounds)}]", LLAMA)
    except SelectionError:
        assert not any(expected)
    else:
        assert found[f"model.layers.2.self_attn.{projection}.weight"] == expected


@given(anatomies(), SELECTIONS, SELECTIONS, _SLICES)
def test_slices_distribute(anatomy: Anatomy, a: str, b: str, bounds: Slice) -> None:
    cut = _text(bounds)
    parts = [f"({a})[{cut}]", f"({b})[{cut}]"]
    _fit(anatomy, *parts)
    assert alphas(f"(({a}) + ({b}))[{cut}]", anatomy) == alphas(" + ".join(parts), anatomy)
