"""A search for a mend as four answers: in words, as a page, as it is drawn."""

import html
import json
import re
import shlex
import subprocess
from xml.etree import ElementTree

import pytest

pytest.importorskip("torch", reason="measures are torch's")

import browsers
from mended_runs import ENDS, FACTS, LEARNED, MAGNITUDE, mended
from taia.mending.candidates import Candidate
from taia.mending.result import CandidateRow, Cost
from taia.reporting import mended as words
from taia.reporting.mended_page import render
from taia.reporting.svg import Tradeoff, trade

COST = Cost.of(ENDS.tuned, ENDS)
KINDS = {
    "chosen": {},
    "none": {"chosen": False},
    "no harm": {"worse": False},
    "cannot be told": {"worse": None},
}


def words_of(page):
    """What a page shows, on one line."""
    body = page.partition("<body>")[2]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def plain(**kind):
    return json.loads(json.dumps(mended(**kind).to_json()))


@pytest.mark.parametrize("kind", KINDS)
def test_there_are_four_questions_each_with_an_answer(kind):
    found = words.answers(plain(**KINDS[kind]))
    assert [one.question[:12] for one in found] == [
        "Is the fine-", "What would e", "Which one sh", "What to chan",
    ]  # fmt: skip
    assert all(one.short for one in found)
    said = " ".join(s for one in found for s in (one.short, *one.sentences))
    assert not re.search(r"None(?! of them)|\bnan\b|\{|\}", said)


def test_harm_is_told_in_numbers_that_a_person_knows():
    (first, *_) = words.answers(plain())
    assert first.short.startswith("Yes")
    assert first.sentences[0] == (
        "General questions answered rightly: 70 % before, 50 % after "
        "(25 of 100 turned for the worse, 5 for the better): worse."
    )
    assert "no clear difference" in first.sentences[1]
    assert re.fullmatch(r"Bits a byte on general texts .*: 1\.59 before, 1\.97 after: worse\.",
                        first.sentences[2])  # fmt: skip


def test_no_harm_says_what_may_have_gone_unseen():
    first, _, third, _ = words.answers(plain(worse=False))
    assert first.short == "No harm was found."
    assert "could not be seen with 40 items" in first.sentences[-1]
    assert third.short == "Keep the fine-tuned model as it is."


def test_the_choice_has_its_intervals_its_scores_and_its_honesty():
    _, _, third, _ = words.answers(plain())
    text = " ".join(third.sentences)
    assert re.search(r"it has \d+ % \(\d+ to \d+\) of what was learnt", text)
    assert "base 71 %, fine-tune 53 %, this choice 76 % (120 items kept apart)" in text
    assert "base 1.10, fine-tune 1.50, this choice 1.20" in text
    assert "best of 12 random selections takes back" in text
    assert "57 measurements" in text


@pytest.mark.parametrize("candidate", [LEARNED, MAGNITUDE])
def test_the_command_reads_back(candidate):
    line = shlex.split(words.command(plain(choice=candidate)))
    assert line[:4] == ["taia", "compose", "org/base", "runs/tuned"]
    assert line[line.index("--keep") + 1] == candidate.selection
    assert ("--method" in line) == (candidate.method is not None)
    assert words.command(plain(chosen=False)) == ""


def test_a_selection_too_long_to_read_is_in_a_file(tmp_path):
    long = Candidate("learned", " + ".join(f"0.{n}*all[{n}]" for n in range(10, 60)), "", 50)
    found = plain(choice=long, rows=[*mended().rows[:5], CandidateRow(long, "select", COST)],
                  written=tmp_path / "a b" / "choice")  # fmt: skip
    line = words.command(found)
    assert len(line) < 300
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "keep.txt").write_text(f"{long.selection}\n")
    shell = ["sh", "-c", f"printf '%s\n' {line.partition(' ')[2]}"]
    words_of_it = subprocess.run(shell, capture_output=True, text=True, check=True).stdout
    said = words_of_it.splitlines()
    assert said[said.index("--keep") + 1] == long.selection
    assert long.selection in words_of(render(found))


def test_the_table_begins_with_base_tuned_and_the_choice():
    rows = words.table(plain())
    assert [row["name"] for row in rows[:3]] == ["base", "tuned", LEARNED.name]
    told = {row["name"] for row in rows if row["reported"]}
    assert told == {"base", "tuned", "taia", LEARNED.name}


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_is_whole_and_asks_for_nothing(kind):
    page = render(plain(**KINDS[kind]))
    assert "http" not in page.replace("http://www.w3.org", "")
    shown = words_of(page)
    for number in range(1, 5):
        assert f"{number}. " in shown
    assert FACTS["command"] in shown
    assert ("taia compose org/base" in shown) == (kind in ("chosen", "cannot be told"))
    assert page.count('<svg class="plot"') == (0 if kind == "no harm" else 1)


def test_names_are_shown_as_they_are():
    page = render(plain(facts={**FACTS, "tuned": "<script>alert(1)</script>"}))
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page


def test_marks_stand_where_the_numbers_are_and_the_line_joins_the_front():
    ways = [
        Tradeoff("base", 1.0, 0.0, 0),
        Tradeoff("tuned", 0.0, 1.0, 1),
        Tradeoff("good", 0.7, 0.98, 2),
        Tradeoff("poor", 0.5, 0.5),
        Tradeoff("off", -3.0, -7.0),
    ]
    drawn = ElementTree.fromstring(trade(ways, "back", "kept", "all"))
    (front,) = drawn.findall(".//polyline")
    assert len(front.get("points").split()) == 3
    titles = [title.text for title in drawn.iter("title")]
    assert "off: keeps -700%, takes back -300%" in titles
    circles = {
        group.find("title").text.split(":")[0]: group.find(".//circle")
        for group in drawn.iter("g")
        if group.find("title") is not None
    }
    poor, off, base = (circles[name] for name in ("poor", "off", "base"))
    assert float(off.get("cx")) < float(poor.get("cx")) < float(base.get("cx"))
    assert float(off.get("cy")) == float(base.get("cy")) > float(poor.get("cy"))


@pytest.mark.slow
@pytest.mark.skipif(browsers.BROWSER is None, reason="no browser is here")
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_cut_off_in_a_browser(kind, width, tmp_path):
    found, said = browsers.look(tmp_path, render(plain(**KINDS[kind])), width)
    assert found["page"] <= found["window"]
    assert found["cut"] == []
    assert found["overlaps"] == []
    assert found["hidden"] == []
    assert said == []
