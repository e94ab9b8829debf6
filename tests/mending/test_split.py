"""Parts by what items say; what is reported on is sealed."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taia.errors import DataError
from taia.mending.split import SHARES, key_of, part_of, split

TEXTS = [f"Question {number}: what is {number * 7}?" for number in range(400)]


def parts(texts, seed=0):
    found = split(texts, key_of, "--learn", seed)
    return {"search": found.search, "select": found.select, "report": found.report.open()}


def test_every_text_is_in_one_part_and_about_as_many_as_the_shares_say():
    found = parts(TEXTS)
    assert sorted(text for some in found.values() for text in some) == sorted(TEXTS)
    for part, share in SHARES.items():
        assert len(found[part]) == pytest.approx(400 * share, abs=40)


def test_a_part_does_not_depend_on_order_or_company():
    shuffled = random.Random(1).sample(TEXTS, len(TEXTS))
    assert parts(TEXTS) == parts(shuffled)
    some = parts(TEXTS[:200])
    for part, texts in parts(TEXTS).items():
        assert set(some[part]) == set(texts) & set(TEXTS[:200])


def test_another_seed_gives_other_parts():
    assert parts(TEXTS, 1)["report"] != parts(TEXTS, 2)["report"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the capital of France?", "what is  the capital of france"),
        ("Straße, bitte!", "STRASSE BITTE"),
        ("ﬁne\u00a0print", "fine print"),
        ("Order #44 — two bolts.", "order 44 two bolts"),
        ("???", " ??? "),
    ],
)
def test_near_doubles_have_one_key(one, other):
    assert key_of(one) == key_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("25 mm", "26 mm"), ("a b", "ab"), ("???", "!!!"), ("你好", "你们好"), ("", "x")],
)
def test_what_says_something_else_has_another(one, other):
    assert key_of(one) != key_of(other)


@given(st.text())
def test_any_text_has_a_part(text):
    assert part_of(key_of(text), 3) in SHARES
    assert key_of(text) == key_of(text.upper().lower().upper()) or not text.isascii()


def test_doubles_count_once_and_the_first_stays():
    texts = [*TEXTS, *(text.upper() for text in TEXTS)]
    assert parts(texts) == parts(TEXTS)


@pytest.mark.parametrize("few", [TEXTS[:1], TEXTS[:2], ["Same.", "same", "SAME!"] * 30, []])
def test_a_part_that_would_be_empty_is_refused_in_a_sentence(few):
    with pytest.raises(DataError, match=r"--learn has \d+ different items") as error:
        split(few, key_of, "--learn", 0)
    assert "thirty or more" in error.value.mend


def test_the_seal_holds_until_it_is_opened():
    found = split(TEXTS, key_of, "--keep", 0)
    with pytest.raises(AssertionError, match="sealed"):
        found.report.items  # noqa: B018 - looking is what is refused
    assert found.report.open() == found.report.items != ()
