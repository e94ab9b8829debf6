"""Large numbers in three figures."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taia.reporting.sizes import in_bytes, in_millions

UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1 K"),
        (134_515_008, "135 M"),
        (999_500, "1 M"),  # not "1e+03 K"
        (999_499, "999 K"),
        (7_241_732_096, "7.24 B"),
        (1_500_000_000_000_000, "1500 T"),
    ],
)
def test_counts(count, text):
    assert in_millions(count) == text


def test_bytes():
    assert [in_bytes(n) for n in (0, 512, 269_060_552, 14_500_000_000)] == (
        ["0 B", "512 B", "269 MB", "14.5 GB"]
    )


@settings(max_examples=200)
@given(st.integers(0, 10**16))
def test_a_size_reads_back_to_three_figures(count):
    number, _, unit = in_millions(count).partition(" ")
    assert "e" not in number
    assert float(number) * UNITS[unit] == pytest.approx(count, rel=0.005)
