"""Numbers and names in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from eval_runs import facts, result
from taia.evaluation.scores.statistics import Contrast, Estimate
from taia.evaluation.scores.summary import Summary
from taia.reporting.table import guesses
from taia.reporting.words import (
    chance,
    change,
    direction,
    error,
    gap,
    interval,
    marked,
    marks,
    percent,
    points,
    turned,
    unit,
    without_error,
)
from taia.reporting.words import pairs as pairs_of


def test_numbers_read_as_printed():
    assert percent(Estimate(0.6128, 0.5, 0.7)) == "61.3"
    assert interval(Estimate(0.61, 0.5551, 0.6749)) == "56–67"
    assert [points(x) for x in (0.0432, -0.0432, 0.0004, -0.0004, 0)] == (
        ["+4.3", "−4.3", "0.0", "0.0", "0.0"]
    )
    assert change(Contrast(-0.043, -0.0811, 0.0, 0.5)) == "−4.3 [−8.1, 0.0]"


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


def summary(made, **more) -> Summary:
    return Summary.of(made, facts(made, **more))


#: (Task, metric) → mode → scores: higher or lower, where either may be better.
APART = {
    ("more", "acc"): {"base": [0.0] * 40, "taia": [1.0] * 40},
    ("fewer", "acc"): {"base": [1.0] * 40, "taia": [0.0] * 40},
    ("safer", "asr"): {"base": [1.0] * 40, "taia": [0.0] * 40},
    ("riskier", "asr"): {"base": [0.0] * 40, "taia": [1.0] * 40},
    ("refuses", "over_refusal"): {"base": [0.0] * 40, "taia": [1.0] * 40},
    ("loss", "word_perplexity"): {
        "base": [9.0 + n % 3 for n in range(300)],
        "taia": [7.0 + n % 2 for n in range(300)],
    },
}


def test_marks_go_with_the_sign_and_words_with_what_is_better():
    made = summary(
        [
            result(task, mode, scores, metric)
            for (task, metric), by_mode in APART.items()
            for mode, scores in by_mode.items()
        ]
    )
    wanted = {
        "more": ("▲b", "better"),
        "fewer": ("▼b", "worse"),
        "safer": ("▼b", "better"),
        "riskier": ("▲b", "worse"),
        "refuses": ("▲b", "worse"),
        "loss": ("▼b", "better"),
    }
    for task, (mark, word) in wanted.items():
        assert marks(made, "taia", task) == [(mark, 1 if word == "better" else -1)]
        told = marked(made.difference("taia", "base", task), gap(made, "taia", "base", task))
        assert told.split()[0] == mark[0]
        assert told.split()[1][0] == {"▲": "+", "▼": "−"}[mark[0]]
        assert told.split()[-1] == word
        assert direction(made, task) == ("" if task in ("more", "fewer") else "↓")


def test_what_turned_is_right_and_wrong_not_one_and_nought():
    made = summary(
        [
            result(task, mode, scores, metric)
            for (task, metric), by_mode in APART.items()
            for mode, scores in by_mode.items()
        ]
    )
    assert {task: turned(made, "taia", "base", task) for task, _ in APART} == {
        "more": "+40 −0",
        "fewer": "+0 −40",
        "safer": "+40 −0",
        "riskier": "+0 −40",
        "refuses": "+0 −40",
        "loss": "–",
    }
    assert turned(made, "base", "taia", "safer") == "+0 −40"


@pytest.mark.parametrize("items", [1, 2])
@pytest.mark.parametrize("metric", ["acc", "asr", "word_perplexity"])
def test_one_item_has_no_standard_error_which_is_said(items, metric):
    made = summary(
        [
            *(result("law", mode, [1.0, 0.0] * 9) for mode in ("base", "tuned")),
            *(result("tiny", mode, [1.0, 0.0][:items], metric) for mode in ("base", "tuned")),
        ]
    )
    assert (error(made, "base", "tiny") == "no ±") == (items == 1)
    said = without_error(made)
    assert bool(said) == (items == 1)
    assert not said or said.startswith("No ±: one item has no standard error (tiny)")
    assert ("nor has an average" in said) == (items == 1 and metric == "acc")
    assert error(made, "base", "law").startswith("±")


def test_guessing_is_known_where_every_item_has_options():
    def asked(task, options):
        made = result(task, "base", [1.0, 0.0])
        samples = [replace(s, options=k) for s, k in zip(made.samples, options, strict=True)]
        return replace(made, samples=tuple(samples))

    made = summary([asked("mixed", [2, 4]), asked("some", [4, None]), asked("none", [None] * 2)])
    assert chance(made, "mixed") == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert chance(made, "some") is None
    assert chance(made, "none") is None
    assert guesses(made) == ["–", "38", "–", "–"]


def test_what_has_no_interval_says_so():
    bare = Estimate(0.5, None, None)
    assert interval(bare) == "no interval"
    assert change(bare) == "+50.0 (no interval)"
    made = [result("nats", mode, [70.0], "word_perplexity") for mode in ("base", "tuned")]
    assert gap(summary(made), "tuned", "base", "nats") == "0 (no interval)"


def test_scores_that_are_no_percentages_are_not_called_so():
    shares = [result("law", mode, [1.0, 0.0]) for mode in ("base", "tuned")]
    losses = [result("bits", m, [1.5, 2.0], "word_perplexity") for m in ("base", "tuned")]
    told = [unit(Summary.of(made, facts(made))) for made in (shares, shares + losses, losses)]
    assert told == [
        "in percent",
        "in percent, bits in word_perplexity",
        "as the tasks count (bits in word_perplexity)",
    ]
