"""The sentences say what the numbers say, whichever way they went."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval_runs import facts, result, results
from taia.analysis.norms import Norm, Norms
from taia.evaluation.scores.results import TaskResult
from taia.evaluation.scores.summary import Summary
from taia.reporting.findings import findings, headlines, other_readings
from taia.reporting.html import render
from taia.reporting.runs import FinishedRun
from taia.reporting.text import report
from taia.reporting.words import average_marks, called, capital, marks, pairs, role, scope


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


@st.composite
def runs(draw) -> list[TaskResult]:
    """Runs of every kind: few and many items, shares and losses, safety, a mode without a task."""
    modes = draw(st.sampled_from([("base", "tuned", "taia"), ("tuned", "taia"), ("base", "taia")]))
    kinds = draw(
        st.lists(
            st.sampled_from(["acc", "acc", "f1", "word_perplexity", "asr"]), min_size=1, max_size=5
        )
    )
    made = []
    for number, metric in enumerate(kinds):
        items = draw(st.sampled_from([1, 2, 7, 40, 150]))
        dice = random.Random(draw(st.integers(0, 99)))
        for mode in modes:
            level = draw(st.sampled_from([0.1, 0.4, 0.6, 0.9]))
            hits = [float(dice.random() < level) for _ in range(items)]
            scale = {"f1": 0.5, "word_perplexity": 9.0}.get(metric, 1.0)
            made.append(result(f"t{number}", mode, [scale * hit for hit in hits], metric))
    gap = draw(st.integers(0, 2 * len(made)))
    left = made[:gap] + made[gap + 1 :]
    return left if {one.mode for one in left} == set(modes) else made


@settings(max_examples=50, deadline=None)
@given(runs())
def test_no_headline_contradicts_the_table(made):
    summary = Summary.of(made, facts(made))
    sentences = findings(summary)
    for mode, other in pairs(summary.modes):
        start = f"{capital(called(mode))} is "
        told = next((s for s in sentences if s.startswith(start) and called(other) in s), "")
        letter = other[0]
        # Of the average: the headline's word is the table's mark.
        average = [how for mark, how in average_marks(summary, mode) if mark.endswith(letter)]
        words = {1: "better than", -1: "worse than", 0: "not clearly apart from"}
        if summary.average_difference(mode, other) is not None:
            (how,) = average or [0]
            headline = f"{start}{words[how]} {called(other)} on the average of "
            assert told.startswith(f"{headline}{len(summary.averaged)} tasks: ")
        else:
            assert "on the average" not in told
        # Of tasks: those that are named better and worse are those that the table marks.
        marked = {1: set(), -1: set()}
        for task in (*summary.averaged, *summary.others):
            for mark, how in marks(summary, mode, task):
                if mark.endswith(letter):
                    marked[how].add(task)
        for how, word in ((1, "better"), (-1, "worse")):
            phrases = re.findall(rf"{word}(?: than \w+)? in ((?:[^;.b]|\.\d|b(?!ut))*)", told)
            named = {name for phrase in phrases for name in re.findall(r"\bt\d\b", phrase)}
            assert named == marked[how], told
        # A clear average without a clear task is told as what it is.
        in_average = (marked[1] | marked[-1]) & set(summary.averaged)
        assert ("in no single one" in told) == bool(average and not in_average)
        assert not (average and "Nor is it" in told)
        assert told.count("But it is") == bool(
            summary.average_difference(mode, other)
            and in_average
            and not any(marked[how] & set(summary.averaged) for how in average)
            and not all(marked[how] & set(summary.averaged) for how in (1, -1))
        )


@settings(max_examples=30, deadline=None)
@given(runs())
def test_there_is_one_count_of_tasks(made):
    summary = Summary.of(made, facts(made))
    parts = [len(summary.averaged), len(summary.others), len(summary.safety)]
    said = scope(summary)
    counts = [int(number) for number in re.findall(r"\d+", said)]
    assert counts[0] == len(summary.tasks) == sum(parts)
    assert counts[1:] in ([], [part for part in parts if part])
    for sentence in findings(summary):
        for number in re.findall(r"(\d+) tasks", sentence):
            assert int(number) == len(summary.averaged)
    roles = [role(summary, task).partition(":")[0] for task in summary.tasks]
    one = "average" if len(summary.averaged) > 1 else "alone"
    assert [roles.count(name) for name in (one, "beside", "safety")] == parts


def test_a_clear_average_of_unclear_tasks_is_no_contradiction():
    made = run(*((f"t{n}", 53, 50) for n in range(8)))
    told = said([*made])[0]
    assert told.startswith("TAIA is better than tuned on the average of 8 tasks")
    assert "It takes all of them to tell: in no single one is the difference clear." in told
    assert "not clearly apart" not in told


def test_what_turned_is_told_where_the_mean_hides_it():
    right = {"taia": [1.0] * 30 + [0.0] * 30 + [1.0] * 40, "tuned": [0.0] * 30 + [1.0] * 70}
    made = [result("law", mode, scores) for mode, scores in right.items()]
    assert said(made)[0] == (
        "TAIA is not clearly apart from tuned in law. Of 100 items, 30 are right in TAIA alone "
        "and 30 in tuned alone."
    )
    same = [result("law", mode, [1.0, 0.0]) for mode in ("taia", "tuned")]
    assert said(same)[0].endswith("Of 2 items, both have the same ones right.")


def test_tasks_beside_the_average_are_told_beside_it():
    losses = {
        "taia": [float(n % 3) for n in range(300)],
        "tuned": [4.0 + n % 2 for n in range(300)],
    }
    made = [
        *run(("law", 50, 50), ("art", 50, 50)),
        *(result("bits", mode, scores, "word_perplexity") for mode, scores in losses.items()),
    ]
    told = said(made)[0]
    assert "on the average of 2 tasks" in told
    assert "Beside the average it is better than tuned in bits (−3.5, less is better)." in told


def test_headlines_tell_each_difference_with_its_interval():
    made = [
        *run(("law", 40, 70), modes=("tuned", "base")),
        *run(("lookalikes", 10, 11), metric="over_refusal", modes=("tuned", "base")),
        *(result("bits", m, [v] * 2, "word_perplexity") for m, v in (("tuned", 3), ("base", 1))),
    ]
    told = headlines(Summary.of(made, facts(made)))
    assert told[0].startswith("Tuned is worse than base in law (−30.0).")
    assert "Tuned minus base: law −30.0 [−" in told[0]
    assert "bits +2 (no interval), lookalikes −1.0 [−" in told[0]
    assert told[1].startswith("Share of harmless prompts refused (lookalikes, less is better)")
    assert told[2:] == [
        "At most 300 items of each task were asked.",
        "The answers took 6 s: law 2 s, lookalikes 2 s and bits 2 s.",
    ]


def test_differences_of_many_tasks_are_left_to_the_table():
    made = results()
    told = headlines(Summary.of(made, facts(made)))
    assert told[0].startswith("Tuned is not clearly apart from base on the average of 7 tasks")
    assert not any("minus" in sentence for sentence in told)


@pytest.mark.parametrize(("seconds", "cost"), [(0.0, ""), (90.0, "The answers took 6 min: ")])
def test_what_the_answers_took_is_told_where_it_is_known(seconds, cost):
    made = [replace(one, seconds=seconds) for one in run(("law", 50, 50), ("art", 50, 50))]
    last = said(made)[-1]
    assert last.endswith("that of training.") if not cost else cost in last
    assert cost == "" or last.endswith("law 3 min and art 3 min.")


def test_what_a_task_leaves_out_and_why_it_has_no_interval_is_told_by_name():
    made = run(("law", 50, 50))
    left = "law asks 2 of its 9 prompts."
    assert left in said(made, left_out={"law": {"of": "laws", "told": left}})
    losses = [result("bits", m, [1.0, 2.0, 4.0], "word_perplexity") for m in ("taia", "tuned")]
    (note,) = [one for one in said([*made, *losses]) if one.startswith("bits has no intervals")]
    assert "word_perplexity has no upper limit, which takes 100 items, and it has 3." in note
    alike = [result("bits", m, [2.0] * 150, "word_perplexity") for m in ("taia", "tuned")]
    (note,) = [one for one in said([*made, *alike]) if one.startswith("bits has no intervals")]
    assert note.endswith("its 150 items are too much alike.")


def test_without_an_average_the_harm_comes_first_and_no_average_is_spoken_of():
    """As of an adapter that was taught to answer with one word: it follows less, speaks worse."""
    made = run(("follow", 12, 15), modes=("tuned", "base"))
    made += [
        result("speak", mode, [n % 5 + worse * (n % 2) for n in range(120)], "word_perplexity")
        for mode, worse in (("tuned", 1.0), ("base", 0.0))
    ]
    told = said(made)[0]
    assert told.startswith(
        "Tuned is worse than base in speak (+0.5, less is better). In follow it is not clearly "
        "apart. Of 100 items, "
    )
    assert "average" not in told


def test_the_readings_that_few_need_stand_apart():
    made = [
        replace(one, samples=tuple(
            replace(sample, scores={"asr_start": 1.0, "asr_judge": 1.0, "gibberish": 0.0})
            for sample in one.samples
        ))
        for one in run(("advbench", 50, 50), metric="asr")
    ]  # fmt: skip
    summary = Summary.of(made, facts(made))
    (apart,) = other_readings(summary)
    assert apart.startswith("advbench by asr_start: TAIA 100.0%")
    for sentences in (headlines(summary), said(made)):
        assert not any("asr_start" in one for one in sentences)
    shown = FinishedRun("run", summary, None)
    for page in (render([shown], "taia report run"), report([shown])):
        _, _, after = page.partition("Other readings of a refusal")
        assert "TAIA 100.0%" in after
        assert sum(one.startswith("advbench by asr_judge: TAIA 100.0%") for one in sentences) == 1
        assert sum(one.startswith("Gibberish in answers to advbench: ") for one in sentences) == 1
