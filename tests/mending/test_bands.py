"""Bands of layers against every way to cut."""

from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taia.mending.bands import GROUPINGS, joined
from taia.mending.places import Place


def cost(places, alphas, weights):
    whole = sum(weights[place] for place in places)
    mean = sum(weights[place] * alphas[place] for place in places) / whole
    return sum(weights[place] * (alphas[place] - mean) ** 2 for place in places)


def every_cut(layers, count):
    """All ways to cut so many layers into so many bands."""
    for inner in combinations(range(1, layers), count - 1):
        edges = (0, *inner, layers)
        yield [range(*edge) for edge in pairwise(edges)]


def cheapest(columns, layers, count, alphas, weights):
    return min(
        sum(
            cost([Place(layer, *column) for column in columns for layer in band], alphas, weights)
            for band in cut
        )
        for cut in every_cut(layers, count)
    )


numbers = st.floats(0, 1).map(lambda x: round(x, 3))


@settings(max_examples=60)
@given(st.data(), st.integers(2, 6))
def test_one_component_is_cut_as_cheaply_as_can_be(data, layers):
    columns = [("mlp", "up_proj"), ("mlp", "down_proj")]
    places = [Place(layer, *column) for layer in range(layers) for column in columns]
    alphas = {place: data.draw(numbers) for place in places}
    weights = {place: data.draw(st.floats(0.1, 5)) for place in places}
    for bands in joined(alphas, weights, most=layers):
        count = len(bands.values)
        whole = cheapest(columns, layers, count, alphas, weights)
        assert bands.cost <= whole + 1e-3
        if bands.grouping != "projections":
            assert bands.cost == pytest.approx(whole, rel=1e-4, abs=1e-4)


@settings(max_examples=60)
@given(st.data())
def test_the_cost_is_that_of_the_numbers_told(data):
    places = [
        *(Place(layer, "mlp", name) for layer in range(4) for name in ("up_proj", "down_proj")),
        *(Place(layer, "attention", "q_proj") for layer in (1, 3)),
        Place(None, "head", "lm_head"),
        Place(None, "norm", "norm"),
        Place(2, "norm", "norm"),
    ]
    alphas = {place: data.draw(numbers) for place in places}
    weights = {place: data.draw(st.floats(0.01, 5)) for place in places}
    before = float("inf")
    sizes = []
    for bands in joined(alphas, weights, most=12):
        assert set(bands.groups) == set(places)
        assert set(bands.groups.values()) == set(range(len(bands.values)))
        told = sum(
            weights[place] * (alphas[place] - bands.values[number]) ** 2
            for place, number in bands.groups.items()
        )
        assert told == pytest.approx(bands.cost, abs=1e-4)
        assert told < before + 1e-6
        before = told
        sizes.append(len(bands.values))
        name = GROUPINGS[bands.grouping]
        for number in range(len(bands.values)):  # a band is one group's, and without a gap
            own = [place for place, other in bands.groups.items() if other == number]
            assert len({name(place) for place in own}) == 1
            layers = {place.layer for place in own} - {None}
            inside = [
                place
                for place in places
                if layers
                and place.layer is not None
                and min(layers) <= place.layer <= max(layers)
                and name(place) == name(own[0])
            ]
            assert set(inside) <= set(own)
    assert sizes == sorted(set(sizes))
    assert sizes[0] == 1


def test_equal_alphas_are_one_number():
    places = [Place(layer, "mlp", name) for layer in range(5) for name in ("up", "down")]
    found = [*joined(dict.fromkeys(places, 0.3), dict.fromkeys(places, 1.0), most=8)]
    assert [bands.values for bands in found] == [pytest.approx((0.3,))]


def test_places_that_do_not_matter_have_a_number_too():
    places = [Place(layer, "mlp", "up") for layer in range(4)]
    weights = dict.fromkeys(places, 0.0)
    (first, *_) = joined({place: 0.1 * n for n, place in enumerate(places)}, weights, most=2)
    assert first.values == pytest.approx((0.15,))


def test_two_components_that_differ_are_told_apart_first():
    places = {
        Place(layer, component, "x"): alpha
        for component, alpha in (("mlp", 0.2), ("attention", 0.9))
        for layer in range(6)
    }
    one, two = [*joined(places, dict.fromkeys(places, 1.0), most=4)]
    assert one.values == pytest.approx((0.55,))
    assert (two.grouping, sorted(two.values)) == ("components", pytest.approx([0.2, 0.9]))
