"""The sentences say what the intervals say, in every case."""

from __future__ import annotations

import pytest

from comparisons import comparison, first, last, realistic
from taia.evaluation.scores.statistics import Difference, Estimate
from taia.reporting.words import change, findings, heading, interval, percent, points

CAVEAT = "One training run, one seed."


def modes(base: int, tuned: int, other: int | None = None, *, skill=(20, 20, 20), name="taia"):
    """Of 40 questions each, how many base, tuned and another mode answer rightly."""
    counts = {"base": (base, skill[0]), "tuned": (tuned, skill[1])}
    if other is not None:
        counts[name] = (other, skill[2])
    return comparison(
        {m: {"law": first(k, 40), "trained": first(s, 40)} for m, (k, s) in counts.items()}
    )


def about(made, start: str) -> str:
    found = [sentence for sentence in findings(made) if sentence.startswith(start)]
    assert len(found) == 1, findings(made)
    return found[0]


@pytest.mark.parametrize(
    ("tuned", "said"),
    [
        (38, "Tuning taught the trained skill: 50.0% became 95.0% (+45.0 ["),
        (2, "Tuning made the trained skill worse: 50.0% became 5.0% (−45.0 ["),
        (22, "Whether tuning taught the trained skill is not clear: 50.0%, then 55.0% (+5.0 ["),
    ],
)
def test_what_tuning_taught(tuned, said):
    made = modes(20, 20, skill=(20, tuned))
    assert findings(made)[0].startswith(said)
    assert change(made.difference("tuned", "base", "skill")) in findings(made)[0]


@pytest.mark.parametrize(
    ("tuned", "said"),
    [
        (2, "It cost knowledge: tuned minus base is −45.0 ["),
        (38, "It did not cost knowledge but added some: tuned minus base is +45.0 ["),
        (19, "Whether it cost knowledge is not clear: tuned minus base is −2.5 ["),
    ],
)
def test_what_tuning_cost(tuned, said):
    made = modes(20, tuned)
    assert findings(made)[1].startswith(said)
    assert change(made.difference("tuned", "base", "knowledge")) in findings(made)[1]


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (
            (36, 10, 22),
            "TAIA knows more than tuned: +30.0 [15.6, 44.2] points, giving back 30.0 of",
        ),
        ((36, 10, 36), "points, giving back all of the 65.0 that tuning cost. It"),
        ((36, 10, 40), "points, giving back all of the 65.0 that tuning cost. It"),
        ((12, 10, 30), "TAIA knows more than tuned: +50.0 ["),
        ((36, 30, 10), "TAIA knows less than tuned: −50.0 ["),
        ((36, 10, 11), "TAIA is not clearly apart from tuned in knowledge: +2.5 ["),
    ],
)
def test_what_a_mode_knows(counts, said):
    made = modes(*counts)
    said = said.replace("[15.6, 44.2]", change(made.difference("taia", "tuned", "knowledge"))[6:])
    assert said in about(made, "TAIA")
    gave_back = counts[1] == 10 and counts[0] == 36 and counts[2] > 11
    assert ("giving back" in about(made, "TAIA")) == gave_back


@pytest.mark.parametrize(
    ("skill", "said"),
    [
        ((2, 20, 38), "It is better than tuned at the trained skill (+45.0 ["),
        ((2, 38, 37), "It is not clearly apart from tuned in the trained skill (−2.5 ["),
        ((2, 38, 20), "It is worse than tuned at the trained skill (−45.0 ["),
        ((2, 38, 20), ", though above base (+45.0 ["),
        ((19, 38, 20), ", and not clearly above base (+2.5 ["),
        ((38, 38, 20), ", and below base (−45.0 ["),
    ],
)
def test_what_a_mode_can(skill, said):
    assert said in about(modes(20, 20, 20, skill=skill), "TAIA")


def test_the_caveat_comes_last_and_once():
    assert [CAVEAT in sentence for sentence in findings(modes(36, 10, 30))] == [False] * 3 + [True]


def test_without_a_skill_nothing_is_said_of_one():
    made = comparison(
        {"base": {"law": first(36, 40)}, "tuned": {"law": last(9, 40)}, "taia": {"law": "1" * 40}}
    )
    assert not any("skill" in sentence for sentence in findings(made))
    assert len(findings(made)) == 3
    assert about(made, "TAIA").endswith("that tuning cost.")


def test_without_knowledge_nothing_is_said_of_it():
    right = {"base": first(2, 40), "tuned": first(38, 40), "taia": first(20, 40)}
    made = comparison({mode: {"trained": answers} for mode, answers in right.items()})
    assert not any("know" in sentence for sentence in findings(made))
    assert about(made, "TAIA").startswith("TAIA is worse than tuned at the trained skill (−45.0 [")
    assert not any("nan" in sentence for sentence in findings(made))


@pytest.mark.parametrize("missing", ["base", "tuned"])
def test_without_base_or_tuned_there_is_nothing_to_find(missing):
    right = {m: {"law": "10", "trained": "01"} for m in ("base", "tuned", "taia") if m != missing}
    assert findings(comparison(right)) == []


def test_modes_are_called_by_their_names():
    said = findings(realistic(**{"all - mlp[20:]": "all - mlp[20:]"}))
    assert [sentence.split(" ")[0] for sentence in said[2:5]] == ["TAIA", "TAIF", "“all"]
    assert said[4].startswith("“all - mlp[20:]” knows more than tuned")


def test_numbers_read_as_printed():
    assert percent(Estimate(0.6128, 0.5, 0.7)) == "61.3"
    assert interval(Estimate(0.61, 0.5551, 0.6749)) == "56–67"
    assert [points(x) for x in (0.0432, -0.0432, 0.0004, -0.0004, 0)] == (
        ["+4.3", "−4.3", "0.0", "0.0", "0.0"]
    )
    assert change(Difference(-0.043, -0.0811, 0.0, 1, 2, 0.5)) == "−4.3 [−8.1, 0.0]"
    assert [heading(x) for x in ("knowledge", "skill", "law")] == (
        ["all knowledge", "trained skill", "law"]
    )
