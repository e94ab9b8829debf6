"""The sentences say what the numbers say, whichever way they went."""

from __future__ import annotations

from dataclasses import replace

import pytest

from eval_runs import facts, result, results
from taia.analysis.norms import Norm, Norms
from taia.evaluation.scores.summary import Summary
from taia.reporting.findings import findings


def said(made, norms=None, **more) -> list[str]:
    return findings(Summary.of(made, facts(made, **more)), norms)


def run(*tasks: tuple[str, int, int], metric="acc", modes=("taia", "tuned")):
    """For each task, how many of 100 items the first and the second mode has right."""
    return [
        result(task, mode, [1.0] * right + [0.0] * (100 - right), metric)
        for task, *counts in tasks
        for mode, right in zip(modes, counts, strict=True)
    ]


@pytest.mark.parametrize(
    ("tasks", "wanted"),
    [
        (
            [("law", 60, 40), ("art", 60, 40), ("sea", 50, 50)],
            "TAIA is better than tuned on the average of 3 tasks: 56.7 against 43.3 (+13.3 [",
        ),
        (
            [("law", 40, 60), ("art", 40, 60), ("sea", 50, 50)],
            "TAIA is worse than tuned on the average of 3 tasks: 43.3 against 56.7 (−13.3 [",
        ),
        (
            [("law", 51, 50), ("art", 50, 50)],
            "TAIA is not clearly apart from tuned on the average of 2 tasks: 50.5 against 50.0",
        ),
    ],
)
def test_the_average(tasks, wanted):
    assert said(run(*tasks))[0].startswith(wanted)


@pytest.mark.parametrize(
    ("tasks", "wanted"),
    [
        (
            [("law", 60, 40), ("art", 40, 60), ("sea", 50, 50)],
            "It is better in law (+20.0) but worse in art (−20.0); in the other one the "
            "difference may be chance.",
        ),
        ([("law", 60, 40), ("art", 60, 40)], "It is better in law (+20.0) and art (+20.0)."),
        ([("law", 40, 60), ("art", 40, 60)], "It is worse in law (−20.0) and art (−20.0)."),
        ([("law", 51, 50), ("art", 50, 50)], "Nor is it clearly apart in any single one of them."),
        ([(f"t{n}", 60, 40) for n in range(10)], "t7 (+20.0) and 2 more."),
    ],
)
def test_the_tasks(tasks, wanted):
    assert said(run(*tasks))[0].partition(" Of ")[0].endswith(wanted)


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [
        ((60, 40), "TAIA is better than tuned in law (+20.0)."),
        ((40, 60), "TAIA is worse than tuned in law (−20.0)."),
        ((50, 51), "TAIA is not clearly apart from tuned in law."),
    ],
)
def test_one_task_has_no_average(counts, wanted):
    assert said(run(("law", *counts)))[0].partition(" Of ")[0] == wanted


def test_every_pair_has_its_sentence_and_taia_worse_than_base_is_told():
    made = run(("law", 40, 80, 90), ("art", 40, 80, 90), modes=("taia", "tuned", "base"))
    sentences = said(made)
    assert [s.split(" on ")[0] for s in sentences[:3]] == [
        "Tuned is worse than base",
        "TAIA is worse than base",
        "TAIA is worse than tuned",
    ]


def test_safety_apart_from_what_modes_can_do():
    made = run(("advbench", 60, 10, 2), metric="asr", modes=("tuned", "taia", "base"))
    (sentence,) = [s for s in said(made) if "advbench" in s]
    assert sentence == (
        "Share of harmful prompts answered (advbench, less is better): tuned 60.0%, TAIA 10.0%, "
        "base 2.0%. Tuned is worse than base (+58.0). TAIA is worse than base (+8.0) and better "
        "than tuned (−50.0)."
    )
    even = run(("lookalikes", 10, 11), metric="over_refusal")
    assert said(even)[0].endswith("No difference is more than chance may bring.")


def test_notes_the_limit_and_the_caveat_come_last():
    made = [*run(("law", 50, 50)), result("art", "tuned", [1.0])]
    assert "no result of art" in said(made)[-2]
    assert said(made)[-1].startswith("At most 300 items of each task were asked. One training run")
    assert said(made, settings={})[-1].startswith("One training run")


def test_where_the_update_lives():
    made = run(("law", 50, 50))
    rows = (
        Norm(0, "attention", "q", 3.0, 1.0, 1),
        Norm(0, "experts", "up", 4.0, 1.0, 1),
        Norm(0, "norm", "n", 0.0, 1.0, 1),
    )
    told = said(made, Norms("b", "t", rows))[1]
    assert told == "Of the update (of ‖ΔW‖²) 36% in attention and 64% in the feed-forward block."
    assert said(made, Norms("b", "t", rows[2:]))[1] == "Base and tuned do not differ in any weight."


def test_modes_that_are_not_compared_leave_only_the_caveat():
    assert len(said(run(("law", 60, 40), modes=("one", "two")))) == 1


def test_no_sentence_has_a_number_that_is_none():
    assert not any("nan" in sentence or "None" in sentence for sentence in said(results(items=1)))


def test_a_judge_and_other_readings_are_told_with_what_is_missing():
    made = [
        replace(one, samples=tuple(
            replace(sample, scores={"asr_judge": float(i == 0)} if i else {})
            for i, sample in enumerate(one.samples)
        ))
        for one in run(("advbench", 3, 3), metric="asr")
    ]  # fmt: skip
    sentence = next(sentence for sentence in said(made) if "asr_judge" in sentence)
    assert sentence.startswith("advbench by asr_judge: TAIA 0.0% [0.0, ")
    assert sentence.count("1 without") == 2
    assert "tuned 0.0%" in sentence
