"""The page's own arithmetic against oracles written in another language."""

from __future__ import annotations

import json
import re
from math import isnan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taia.evaluation.scores.statistics import accuracy

TEXTS = st.lists(
    st.sampled_from(
        ["a", "b", "cat", "Cat", "don't", "3.14", ",", ".", "\n", "  ", "你", "好", "ไ"]
    )
    | st.text(max_size=6),
    max_size=12,
).map(" ".join)


@pytest.fixture(scope="module")
def run(browser):
    """Evaluates an expression on a module's exports, named ``m``, with the argument ``x``."""
    from fake_openai import FakeServer, running

    with running(FakeServer({})) as fake:
        page = browser.new_page()
        page.goto(fake.url + "icon.svg")

        def evaluate(module, expression, x=None):
            code = f"async x => {{ const m = await import('/{module}'); return {expression}; }}"
            return page.evaluate(code, x)

        yield evaluate
        page.close()


#: What JavaScript calls space; Python's str.isspace differs in a few controls.
SPACE = "\t\n\v\f\r \xa0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(
    map(chr, range(0x2000, 0x200B))
)


def longest_common(one: list[str], other: list[str]) -> int:
    """Length of a longest common subsequence, by the table."""
    row = [0] * (len(other) + 1)
    for a in one:
        above = row
        row = [0]
        for j, b in enumerate(other):
            row.append(above[j] + 1 if a == b else max(above[j + 1], row[j]))
    return row[-1]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=20))
def test_a_difference_holds_both_texts_and_is_the_smallest(run, pairs):
    asked = [list(pair) for pair in pairs]
    answered = run("diff.js", "x.map(([a, b]) => [m.words(a), m.words(b), m.diff(a, b)])", asked)
    for (before, after), (one, other, pieces) in zip(pairs, answered, strict=True):
        assert ("".join(one), "".join(other)) == (before, after)
        assert "".join(piece["before"] for piece in pieces) == before
        assert "".join(piece["after"] for piece in pieces) == after
        for piece in pieces:
            assert (piece["before"] == "") == (piece["kind"] == "new")
            assert (piece["after"] == "") == (piece["kind"] == "gone")
        words = [[word.rstrip(SPACE) for word in text] for text in (one, other)]
        same = sum(piece["words"] for piece in pieces if piece["kind"] == "same")
        assert same == longest_common(*words)


def test_words_are_words_and_characters_where_nothing_parts_them(run):
    text = "  It's 3.14, a well-known 事实。 End.Next\n한국어 문장"
    assert run("diff.js", "m.words(x)", text) == [
        "  ", "It's ", "3.14", ", ", "a ", "well-known ", "事", "实", "。 ", "End", ".", "Next\n",
        "한국어 ", "문장",
    ]  # fmt: skip


def test_space_alone_is_no_difference(run):
    pieces = run("diff.js", "m.diff(...x)", ["a  b\nc", "a b c "])
    assert [piece["kind"] for piece in pieces] == ["same"]


def test_texts_that_would_hold_the_page_up_are_not_compared(run):
    assert run("diff.js", "m.diff(x, x)", "word " * 4_001) is None
    assert run("diff.js", "m.diff(x, x).length", "word " * 4_000) == 1


def test_the_interval_is_the_packages(run):
    asked = [[right, total] for total in range(30) for right in range(total + 1)]
    asked += [[1, 10_000], [5_000, 10_000], [9_999, 10_000]]
    found = run(
        "statistics.js", "x.map(([r, n]) => Object.values(m.exact(r, n)).map(String))", asked
    )
    for (right, total), texts in zip(asked, found, strict=True):
        value, low, high = map(float, texts)
        expected = accuracy([True] * right + [False] * (total - right))
        assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)
        assert isnan(value) if total == 0 else value == pytest.approx(expected.value, abs=1e-9)


ROUND = {
    "created": "2024-05-01T00:00:00.000Z", "prompt": "q", "system": "", "temperature": 0.5,
    "max_tokens": 9, "seed": None,
    "answers": [
        {"mode": mode, "selection": "", "text": text, "tokens": 1, "seconds": 1, "finish": "stop"}
        for mode, text in [("base", "one"), ("tuned", "two"), ("taia", "one")]
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("chosen", "best"), [("tuned", ["tuned"]), ("taia", ["base", "taia"]), (None, [])]
)
def test_a_vote_is_for_every_mode_that_gave_that_answer(run, chosen, best):
    vote = run("vote.js", "m.judge(...x)", [ROUND, chosen])
    assert vote["best"] == best
    assert vote["modes"] == ["base", "tuned", "taia"]


def test_equal_answers_are_a_tie(run):
    answers = [{**answer, "text": "one"} for answer in ROUND["answers"]]
    assert run("vote.js", "m.judge(...x).best", [{**ROUND, "answers": answers}, "base"]) == []


def test_the_tally_leaves_ties_and_other_modes_votes_out(run):
    def vote(modes, *best):
        return {"created": "", "prompt": "", "modes": modes.split(), "best": list(best)}

    votes = [
        vote("base taia", "taia"),
        vote("base taia", "taia"),
        vote("base taia", "base"),
        vote("base taia"),
        vote("base tuned", "base"),
    ]
    rows = {row["mode"]: row for row in run("vote.js", "m.tally(x)", votes)}
    counts = {mode: (row["won"], row["decided"], row["tied"]) for mode, row in rows.items()}
    assert counts == {"base": (2, 4, 1), "taia": (2, 3, 1), "tuned": (0, 1, 0)}
    expected = accuracy([True, True, False])
    assert rows["taia"]["low"] == pytest.approx(expected.low, abs=1e-9)
    assert rows["taia"]["high"] == pytest.approx(expected.high, abs=1e-9)


def test_every_order_is_drawn_and_nothing_is_lost(run):
    orders = run("vote.js", "Array.from({length: 400}, () => m.shuffled(['a', 'b', 'c']).join(''))")
    assert set(orders) == {"abc", "acb", "bac", "bca", "cab", "cba"}


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_events_are_read_however_they_are_cut(run, size):
    sent = (
        ': comment\r\ndata: {"a":"é你"}\r\n\r\nevent: x\ndata: two\ndata:lines\n\ndata: unfinished'
    )
    bytes_ = list(sent.encode())
    chunks = [bytes_[i : i + size] for i in range(0, len(bytes_), size)]
    send = "x.forEach((chunk) => to.enqueue(new Uint8Array(chunk))); to.close();"
    stream = f"new ReadableStream({{ start(to) {{ {send} }} }})"
    collect = f"Array.fromAsync(m.events({stream}))"
    assert run("sse.js", f"await {collect}", chunks) == ['{"a":"é你"}', "two\nlines"]


def test_a_round_from_elsewhere_keeps_what_belongs_to_it_alone(run):
    told = json.loads(json.dumps(ROUND)) | {"extra": 1}
    told["answers"][0]["html"] = "<b>"
    assert run("round.js", "m.readRound(x)", told) == ROUND


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [],
        {},
        {**ROUND, "prompt": 1},
        {**ROUND, "seed": "0"},
        {**ROUND, "answers": "none"},
        {**ROUND, "answers": [None]},
        {**ROUND, "answers": [{**ROUND["answers"][0], "seconds": "1"}]},
    ],
)
def test_what_is_no_round_is_refused(run, wrong):
    caught = "(() => { try { return m.readRound(x); } catch (error) { return error.name; } })()"
    assert run("round.js", caught, wrong) == "TypeError"


def test_markdown_in_an_answer_stays_in_its_fence(run):
    text = "```\n# not a heading\n````"
    answers = [{**ROUND["answers"][0], "text": text, "selection": "all - mlp", "finish": "length"}]
    written = run("share.js", "m.markdown(x)", {**ROUND, "answers": answers, "seed": 3})
    assert f"`````text\n{text}\n`````\n" in written
    assert "**base** (`all - mlp`): 1 tokens, 1.0 s, ended by: length" in written
    assert written.startswith("Temperature 0.5, at most 9 tokens, seed 3.\n")


@pytest.mark.parametrize("where", ["mode", "selection", "finish"])
@pytest.mark.parametrize(
    "name",
    [
        "**base** <img src=x onerror=alert(1)>",
        "a`b ``c`` [d](javascript:e)",
        "`",
        "one\ntwo\r\n# three",
        "base\u202eevil",
        "\x1b[31mred",
        "__proto__",
        "",
    ],
)
def test_markdown_in_a_name_is_code(run, where, name):
    answers = [{**ROUND["answers"][0], "text": "hi", where: name}]
    written = run("share.js", "m.markdown(x)", {**ROUND, "answers": answers})
    line = written.splitlines()[-5]
    assert written.count("\n\n**base**") == (where != "mode")
    assert not re.search(r"[\x00-\x1f\u2028\u202e]", line)
    if where == "selection" and not name:
        return
    # What is left of the line without its code, by CommonMark's rule, is the page's own words.
    plain = re.sub(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", "", line)
    words = r"(\*\*base\*\*)?( \(.*\))?: 1 tokens, 1\.0 s(, ended by: )?"
    assert re.fullmatch(words, plain), line
    assert not re.search(r"[<`\[#]|__", plain)
