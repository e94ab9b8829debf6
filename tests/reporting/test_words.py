"""Numbers and names in words."""

from __future__ import annotations

import pytest

from taia.evaluation.scores.statistics import Difference, Estimate
from taia.reporting.words import change, interval, percent, points
from taia.reporting.words import pairs as pairs_of


def test_numbers_read_as_printed():
    assert percent(Estimate(0.6128, 0.5, 0.7)) == "61.3"
    assert interval(Estimate(0.61, 0.5551, 0.6749)) == "56–67"
    assert [points(x) for x in (0.0432, -0.0432, 0.0004, -0.0004, 0)] == (
        ["+4.3", "−4.3", "0.0", "0.0", "0.0"]
    )
    assert change(Difference(-0.043, -0.0811, 0.0, 1, 2, 0.5)) == "−4.3 [−8.1, 0.0]"


@pytest.mark.parametrize(
    ("modes", "pairs"),
    [
        (["base", "tuned"], ["tuned-base"]),
        (["tuned", "taia", "base"], ["tuned-base", "taia-base", "taia-tuned"]),
        (["base", "taia"], ["taia-base"]),
        (["taia", "taif"], []),
        (["base"], []),
    ],
)
def test_what_is_compared_with_what(modes, pairs):
    assert ["-".join(pair) for pair in pairs_of(modes)] == pairs
