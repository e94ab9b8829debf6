"""Time: how it is written, and what there is of it for each part."""

import time

import pytest

from taia.errors import InputError
from taia.mending.budget import FEWEST, MOST, SHARES, Clock, Sizes, seconds_of, usual


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("5m", 300), ("1h", 3600), ("1.5h", 5400), (" 10 m ", 600), ("3", 180)],
)
def test_times(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "m", "-5m", "5 minutes", "1h30m", "0", "9s", "1e3", "nan", "9999h"]
)
def test_what_is_no_time(text):
    with pytest.raises(InputError, match="--budget"):
        seconds_of(text)


@pytest.mark.parametrize(
    ("trained", "seconds"),
    [(None, 600), (10_000.0, 600), (2_000.0, 500), (400.0, 120), (0.0, 120)],
)
def test_by_default_it_is_a_quarter_of_training_or_ten_minutes(trained, seconds):
    assert usual(trained) == seconds


def test_the_shares_are_all_of_it_and_the_last_gets_what_is_left():
    assert sum(SHARES.values()) < 1
    clock = Clock(100.0)
    assert clock.share("answers") == pytest.approx(100 * 0.05 / sum(SHARES.values()), rel=0.01)
    assert clock.share("report") == pytest.approx(clock.left, rel=0.01)
    assert Clock(-1.0).share("search") == 0


def test_what_took_too_long_takes_nothing_from_the_proof():
    late = Clock(100.0, time.monotonic() - 90)
    assert [late.share(part) for part in SHARES if part != "report"] == [0] * (len(SHARES) - 1)
    assert late.share("report") == pytest.approx(10, abs=0.1)


def test_more_time_has_more_examples_within_bounds():
    few, some, many = (Sizes.of(Clock(seconds), 0.1, 20) for seconds in (1, 600, 1e6))
    assert few == Sizes(FEWEST, FEWEST, FEWEST)
    assert many == Sizes(MOST, MOST, MOST)
    assert FEWEST < some.search < MOST


def test_what_is_sized_fits_into_its_share():
    clock = Clock(600.0)
    sizes = Sizes.of(clock, 0.1, 20)
    took = 0.1 * (20 * sizes.search / 3 + 7 * sizes.search * 2 / 3 + 2 * sizes.search)
    assert took <= 600 * SHARES["search"] / sum(SHARES.values()) * 1.1
