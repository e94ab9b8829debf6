"""Stops against a reader that looks at the whole text after each character."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taia.runtime.stops import Stops

LETTERS = st.text("ab\n", max_size=12)


def pieces(stops, parts):
    """What each piece lets through, up to the one that ends the text, and what was held back."""
    reader = Stops(stops)
    passed = []
    for part in parts:
        text, ended = reader.push(part)
        passed.append(text)
        if ended:
            return passed, True
    return [*passed, reader.flush()], False


def slow(stops, text):
    for end in range(len(text) + 1):
        starts = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if starts:
            return text[: min(starts)], True
    return text, False


@settings(deadline=None)
@given(st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3), st.lists(LETTERS))
def test_pieces_do_not_matter(stops, parts):
    passed, ended = pieces(stops, parts)
    assert ("".join(passed), ended) == slow(stops, "".join(parts))


@pytest.mark.parametrize(
    ("stops", "parts", "passed"),
    [
        (["END"], ["one E", "N", "D two"], ["one ", "", ""]),
        (["END"], ["one E", "N", "T"], ["one ", "", "ENT", ""]),
        (["\n\n"], ["a\n", "b\n", "\nc"], ["a", "\nb", ""]),
        (["aab"], ["aa", "a", "b"], ["", "a", ""]),
        ([], ["a", "b"], ["a", "b", ""]),
        (["abc"], ["xab"], ["x", "ab"]),
    ],
)
def test_only_what_may_be_a_stop_is_held(stops, parts, passed):
    assert pieces(stops, parts)[0] == passed
