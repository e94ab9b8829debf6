import pytest
from hypothesis import given
from hypothesis import strategies as st

from taia.errors import DataError
from taia.mending.examples import Example


@given(st.sets(st.integers(1, 20), min_size=1))
def test_places_in_order_after_the_first_are_taken(places):
    counted = tuple(sorted(places))
    assert Example("k", tuple(range(21)), counted).counted == counted


@pytest.mark.parametrize(
    "counted", [(), (0,), (0, 1), (-1,), (4,), (1, 4), (1, 1), (2, 1), (1, 3, 2), (1, 2, 2)]
)
def test_others_are_refused(counted):
    with pytest.raises(DataError, match="The example k counts the places"):
        Example("k", (5, 6, 7, 8), counted)
