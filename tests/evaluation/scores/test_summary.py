"""The summary against numbers worked out by hand, and what must hold of any run."""

from __future__ import annotations

import json
import math
import random
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eval_runs import RATES, TASKS, facts, group, result, results
from taia.errors import DataError
from taia.evaluation.scores.results import Sample
from taia.evaluation.scores.summary import Summary


def summary(made, **more) -> Summary:
    return Summary.of(made, facts(made, **more))


def paired(task: str, both: int, gained: int, lost: int, neither: int, **more):
    """Two modes' results of a task, by how their answers fall together."""
    first = [1.0] * (both + gained) + [0.0] * (lost + neither)
    second = [1.0] * both + [0.0] * gained + [1.0] * lost + [0.0] * neither
    return [result(task, "taia", first, **more), result(task, "tuned", second, **more)]


def test_scores_and_differences_as_published():
    # Newcombe 1998: 15 of 148 by method 5, Clopper and Pearson's.
    made = [*paired("law", 20, 12, 2, 16), result("other", "taia", [1.0] * 15 + [0.0] * 133)]
    said = summary(made)
    score = said.score("taia", "other")
    assert (score.low, score.high) == pytest.approx((0.0578, 0.1617), abs=5e-5)
    assert score.items == 148
    assert said.standard_error("taia", "other") == pytest.approx(
        math.sqrt(15 / 148 * 133 / 148 / 147)
    )
    change = said.difference("taia", "tuned", "law")
    # The bound by drawing: of Dirichlet weights of 12, 36 and 2, with one more at an end.
    rng = np.random.default_rng(0)
    low = np.quantile(rng.dirichlet([12, 36, 3], 200_000) @ [1, 0, -1], 0.025)
    high = np.quantile(rng.dirichlet([13, 36, 2], 200_000) @ [1, 0, -1], 0.975)
    assert (change.low, change.high) == pytest.approx((low, high), abs=2e-3)
    assert (change.gained, change.lost, change.items) == (12, 2, 50)
    # McNemar: two or fewer tails of fourteen coins, both ways.
    assert change.p_value == pytest.approx(2 * (1 + 14 + 91) / 2**14)


def test_holm_is_over_the_tasks_that_two_modes_share():
    # p = 2·(1+6)/2⁶ = 14/64 for 5 to 1; 2/2¹⁰ for 10 to 0; 2·(1+8)/2⁸ for 7 to 1.
    made = [*paired("a", 9, 5, 1, 9), *paired("b", 9, 10, 0, 9), *paired("c", 9, 7, 1, 9)]
    said = summary([*made, result("d", "taia", [1.0, 0.0])])
    got = {task: said.difference("taia", "tuned", task) for task in "abc"}
    assert got["b"].corrected == pytest.approx(3 * 2 / 1024)
    assert got["c"].corrected == pytest.approx(2 * 18 / 256)
    assert got["a"].corrected == pytest.approx(14 / 64)
    assert [got[task].is_real for task in "abc"] == [False, True, False]
    assert said.difference("taia", "tuned", "d") is None
    alone = summary(paired("c", 9, 9, 1, 9)).difference("taia", "tuned", "c")
    assert alone.corrected == alone.p_value < 0.05  # with the three it would not be real


def test_better_is_lower_where_lower_is_better():
    made = [*paired("advbench", 5, 30, 0, 5, metric="asr"), *paired("csqa", 5, 30, 0, 5)]
    said = summary(made)
    assert said.difference("taia", "tuned", "advbench").value > 0
    assert said.difference("taia", "tuned", "advbench").verdict == -1
    assert said.difference("tuned", "taia", "advbench").verdict == 1
    assert said.difference("taia", "tuned", "csqa").verdict == 1
    assert said.safety == ("advbench",)
    assert said.averaged == ("csqa",)


def test_the_average_weighs_tasks_alike_and_knows_what_is_an_accuracy():
    made = []
    for mode, shift in (("base", 0), ("tuned", 10)):
        made += [
            result("short", mode, [1.0] * (5 + shift // 10) + [0.0] * (5 - shift // 10)),
            result("long", mode, [1.0] * 100 + [0.0] * 300),
            result("f1", mode, [0.5] * 40, "f1"),
            result("perplexity", mode, [12.0, 14.0], "word_perplexity"),
            result("rouge", mode, [30.0, 50.0], "rouge"),  # out of a hundred: no share
            result("advbench", mode, [1.0] * 20, "asr"),
        ]
    said = summary(made)
    assert said.averaged == ("short", "long", "f1")
    assert said.others == ("perplexity", "rouge")
    assert said.tasks == ("short", "long", "f1", "perplexity", "rouge", "advbench")
    assert said.average("base").value == pytest.approx((0.5 + 0.25 + 0.5) / 3)
    assert said.average_difference("tuned", "base").value == pytest.approx(0.1 / 3)
    errors = [said.standard_error("base", task) for task in said.averaged]
    assert said.average("base").standard_error == pytest.approx(math.hypot(*errors) / 3)


def test_a_group_counts_as_one_task_over_all_its_items():
    made = []
    for mode, right in (("base", 1), ("tuned", 2)):
        made += [
            result("mmlu_law", mode, [1.0] * right + [0.0] * (10 - right)),
            result("mmlu_art", mode, [1.0] * 30),
            result("csqa", mode, [1.0, 0.0]),
        ]
    groups = {"mmlu_arts": ["mmlu_art"], "mmlu": ["mmlu_arts", "mmlu_law"]}
    said = summary(made, groups=groups)
    assert said.averaged == ("mmlu", "csqa")
    assert said.about["mmlu"].parts == ("mmlu_law", "mmlu_art")
    assert said.score("base", "mmlu").value == 31 / 40
    assert said.score("base", "mmlu").items == 40
    assert said.average("base").value == (31 / 40 + 1 / 2) / 2
    assert (said.difference("tuned", "base", "mmlu").gained, said.notes) == (1, ())


@pytest.mark.parametrize("name", ["taia", "ours"])
def test_a_group_whose_tasks_weigh_the_same_is_a_list_and_no_task(name):
    made = [result(f"t_{t}", m, [1.0, 0.0]) for t in ("math", "bbh") for m in ("base", "tuned")]
    made += [result("t_law", m, [1.0] * 3 + [0.0]) for m in ("base", "tuned")]
    tasks = ["t_math", "t_bbh", "t_law"]
    said = summary(made, groups={name: group(tasks, by_size=False)})
    assert said.averaged == tuple(tasks)
    assert said.average("base").value == pytest.approx(1.75 / 3)
    assert said.notes == ()


def test_a_group_of_different_metrics_stands_apart():
    made = [result("g_a", "base", [1.0, 0.0]), result("g_b", "base", [2.0], "word_perplexity")]
    said = summary(made, groups={"g": ["g_a", "g_b"]})
    assert said.tasks == ("g_a", "g_b")
    apart, without = said.notes
    assert apart == "The tasks of g are scored by different metrics and stand apart."
    assert without.startswith("g_b has no intervals")


def two(mode, rights):
    """Results of tasks of one mode, by how many of four are right."""
    return [
        result(task, mode, [1.0] * right + [0.0] * (4 - right), metrics={"acc,none": right / 4})
        for task, right in rights.items()
    ]


def test_a_group_that_is_only_a_list_has_no_score():
    made = two("base", {"a": 1, "b": 2})
    said = summary(made, groups={"g": group(["a", "b"], by_size=None)})
    assert (said.tasks, said.notes, said.groups["base", "g"]) == (("a", "b"), (), {})


def test_a_task_in_two_groups_is_in_both_and_counts_once():
    made = [*two("base", {"a": 1, "b": 2, "c": 3}), *two("tuned", {"a": 2, "b": 2, "c": 4})]
    said = summary(made, groups={"one": ["a", "b"], "two": ["b", "c"]})
    assert said.tasks == ("one", "two")
    assert (said.score("base", "one").value, said.score("base", "two").value) == (3 / 8, 5 / 8)
    assert said.averaged == ("one",)
    assert said.notes == ("two has items of one and counts in no average beside it.",)


def test_a_group_and_a_task_of_it_both_stand_there():
    made = two("base", {"a": 1, "b": 2})
    said = summary(made, groups={"g": ["a", "b"]}, asked=["a", "g"])
    assert set(said.tasks) == {"a", "g"}
    assert said.averaged == ("g",)
    assert summary(made, groups={"g": ["a", "b"]}, asked=["g"]).tasks == ("g",)


def test_groups_in_a_group_stand_as_their_own_files_say():
    made = two("base", {"a": 1, "b": 2, "c": 4})
    groups = {"inner": group(["a", "b"]), "outer": group(["inner", "c"], ["a", "b", "c"])}
    assert summary(made, groups=groups).tasks == ("outer",)
    groups["outer"] = group(["inner", "c"], ["a", "b", "c"], by_size=False)
    said = summary(made, groups=groups)
    assert said.averaged == ("inner", "c")
    assert said.groups["base", "outer"] == {"acc,none": pytest.approx(7 / 12)}
    assert "outer, whose tasks weigh all the same by its own file, has acc: base 0.5833." in (
        said.notes
    )


@pytest.mark.parametrize("part", ["task", "settings", "hashes"])
def test_results_that_do_not_belong_together_are_told(part):
    made = [
        result("a", mode, [1.0, 0.0], identity={part: value})
        for mode, value in (("base", {"x": 1}), ("tuned", {"x": 2}))
    ]
    with pytest.raises(DataError, match=r"tuned's result of a .* than base's"):
        summary(made)
    assert summary(made[:1]).tasks == ("a",)


def test_a_result_that_was_set_aside_is_told():
    made = [*two("base", {"a": 1, "b": 2}), *two("tuned", {"b": 2})]
    said = summary(made, aside=[("tuned", "a"), ("base", "b")])
    (note,) = said.notes
    assert note.startswith("tuned has no result of a")
    assert "set aside" in note


def whole(mode, shift, items=150, **more):
    """A result whose metric is of all items together."""
    drawn = tuple(shift + place / 1000 for place in range(-50, 50))
    samples = tuple(Sample(str(place)) for place in range(items))
    return result(
        "text", mode, [shift], "word_perplexity", samples=samples, value=shift, drawn=drawn,
        metrics={"word_perplexity,none": shift}, **more,
    )  # fmt: skip


def test_a_metric_of_all_items_is_compared_by_its_draws():
    said = summary([whole("base", 9.0), whole("tuned", 8.0)])
    assert said.score("base", "text").value == 9.0
    assert said.score("base", "text").low == pytest.approx(8.95, abs=0.005)
    change = said.difference("tuned", "base", "text")
    assert (change.value, change.low, change.high) == pytest.approx((-1, -1, -1))
    assert change.verdict == 1, "less is better"
    assert said.averaged == ()
    assert not said.about["text"].is_share


def test_of_few_items_a_metric_of_all_has_no_interval():
    said = summary([whole("base", 9.0, 60), whole("tuned", 8.0, 60)])
    change = said.difference("tuned", "base", "text")
    assert (change.value, change.verdict, change.is_clear) == (-1.0, 0, False)
    other = [whole("base", 9.0), whole("tuned", 8.0, 149)]
    assert summary(other).difference("tuned", "base", "text").verdict == 0, "other items"


def test_what_is_missing_is_said():
    made = [
        result("csqa", "base", {"a": 1.0, "b": 0.0, "c": 0.0}),
        result("csqa", "tuned", {"c": 1.0, "b": 1.0, "d": 0.0}),
        result("law", "base", [1.0]),
        result("art", "base", [1.0]),
        result("art", "tuned", [0.0]),
    ]
    said = summary(made)
    change = said.difference("tuned", "base", "csqa")
    assert (change.items, change.gained, change.lost) == (2, 2, 0)
    assert len(said.notes) == 3
    assert [note.split(" has no ")[0] for note in said.notes] == ["base", "tuned", "tuned"]
    assert "1 of the 4 items of csqa" in said.notes[0]
    assert "no result of law" in said.notes[2]
    assert said.averaged == ("csqa", "art")
    assert not said.has("tuned", "law")
    assert said.difference("tuned", "base", "law") is None


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ([], "no results"),
        ([result("a", "base", [1.0])] * 2, "twice"),
        ([result("a", "base", [1.0], samples=())], "no items"),
        ([result("a", "base", [1.0], samples=result("a", "b", [1.0]).samples * 2)], "one id"),
        ([result("a", "base", [math.nan])], "no number"),
        (
            [result("a", "base", [1.0]), result("a", "tuned", [1.0], protocol="authors")],
            "different rules",
        ),
        ([result("a", "base", [1.0]), result("a", "tuned", [1.0], "f1")], "different rules"),
    ],
)
def test_what_does_not_belong_together_is_refused(made, said):
    with pytest.raises(DataError, match=said):
        summary(made)


def test_scores_that_are_not_right_or_wrong():
    draw = random.Random(3)
    first, second = ([draw.random() for _ in range(400)] for _ in range(2))
    lifted = [min(1.0, score + 0.2) for score in second]
    made = [result("f1", "a", first, "f1"), result("f1", "b", second, "f1")]
    said = summary([*made, result("f1", "c", lifted, "f1")])
    score, half = said.score("a", "f1"), 1.96 * said.standard_error("a", "f1")
    assert (score.high - score.value, score.value - score.low) == pytest.approx(
        (half, half), rel=0.06
    )
    change = said.difference("c", "b", "f1")
    assert change.is_real
    assert change.gained is None
    assert change.low > 0.15
    assert not said.difference("a", "b", "f1").is_real


answers = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30)
scores = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8)


@settings(max_examples=40, deadline=None)
@given(st.lists(answers | scores, min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_order_plays_no_part_and_swapping_modes_negates(tasks, chance):
    def made(shuffled, turned):
        found = []
        for number, pairs in enumerate(tasks):
            rows = [(f"{n}", float(a), float(b)) for n, (a, b) in enumerate(pairs)]
            if shuffled:
                chance.shuffle(rows)
            one = result(f"t{number}", "one", {name: a for name, a, _ in rows})
            two = result(f"t{number}", "two", {name: b for name, _, b in rows})
            found += [two, one] if turned else [one, two]
        return summary(found)

    said = made(shuffled=False, turned=False)
    assert made(shuffled=True, turned=False).to_json() == said.to_json()
    for task in said.tasks:
        there, back = said.difference("one", "two", task), said.difference("two", "one", task)
        assert (back.value, back.low, back.high) == (-there.value, -there.high, -there.low)
        assert (back.p_value, back.corrected) == (there.p_value, there.corrected)
        assert back.verdict == -there.verdict
        assert there.corrected >= there.p_value
        other_way = made(shuffled=False, turned=True).difference("two", "one", task)
        assert (other_way.value, other_way.p_value) == pytest.approx((back.value, back.p_value))
    there = said.average_difference("one", "two")
    if there is not None:
        back = said.average_difference("two", "one")
        assert (back.value, back.low, back.high) == (-there.value, -there.high, -there.low)


def test_a_run_as_large_as_the_papers():
    said = summary(results())
    assert said.averaged == TASKS
    assert said.safety == ("advbench", "lookalikes")
    assert said.average("taia").value > said.average("tuned").value
    assert said.average_difference("taia", "tuned").is_clear
    assert said.difference("taia", "tuned", "advbench").verdict == 1
    plain = said.to_json()
    assert [mode["mode"] for mode in plain["modes"]] == list(RATES)
    assert plain["modes"][2]["minus"]["tuned"]["tasks"]["advbench"]["is_real"]


def test_a_score_without_interval_is_said_and_goes_through_json():
    made = [
        result("texts", "base", [3.0, 4.5, 19.0], "word_perplexity"),
        result("texts", "tuned", [2.0, 2.5, 9.0], "word_perplexity"),
        # Between 0 and 1, but with no end above: as nats per byte are.
        result("bytes", "base", [0.7, 0.9, 0.8], "nats_per_byte", higher_is_better=False),
        result("csqa", "base", [1.0]),
        result("csqa", "tuned", [0.0]),
        result("art", "base", [1.0] * 40),
        result("art", "tuned", [1.0] * 40),
    ]
    said = summary(made)
    for task in ("texts", "bytes"):
        assert said.score("base", task).interval is None
        assert sum(task in note and "no intervals" in note for note in said.notes) == 1
    change = said.difference("tuned", "base", "texts")
    assert (change.interval, change.p_value, change.corrected) == (None, None, None)
    assert (change.is_real, change.verdict, change.flips) == (False, 0, None)
    # Others are corrected for the tests there are: one, as of `art` and `csqa` there are two.
    assert said.difference("tuned", "base", "csqa").corrected == 1
    assert said.average_difference("tuned", "base").verdict == 0
    plain = json.loads(json.dumps(said.to_json(), allow_nan=False))
    base, tuned = plain["modes"]
    assert base["scores"]["texts"]["low"] is None
    assert tuned["minus"]["base"]["tasks"]["texts"]["p_value"] is None


def test_flips_show_what_the_mean_hides():
    before = [1.0] * 30 + [0.0] * 30
    after = [0.0] * 10 + [1.0] * 30 + [0.0] * 20
    made = [result("mmlu", "base", before), result("mmlu", "tuned", after)]
    made = [
        replace(one, samples=tuple(replace(item, options=4) for item in one.samples))
        for one in made
    ]
    made += [result("svamp", one.mode, one.scores) for one in made]
    said = summary(made)
    change = said.difference("tuned", "base", "mmlu")
    assert (change.value, change.gained, change.lost) == (0, 10, 10)
    # Both wrong: 20 items, each of which makes a third of a flip each way.
    assert change.flips.lost.by_chance == pytest.approx(20 / 3)
    assert change.flips.lost.known.value == pytest.approx((10 / 0.75 - 20 * 0.25 / 0.75**2) / 60)
    assert said.difference("base", "tuned", "mmlu").flips == change.flips.turned()
    assert said.difference("tuned", "base", "svamp").flips.lost.by_chance is None
    plain = said.to_json()["modes"][1]["minus"]["base"]["tasks"]["mmlu"]["flips"]
    assert plain["lost"]["count"] == 10
    assert plain["lost"]["known"]["low"] < plain["lost"]["known"]["value"]


@pytest.mark.parametrize("first", ["quick", "whole"])
def test_a_part_of_a_task_counts_in_no_average_beside_the_whole(first):
    names = [first, *{"quick", "whole", "law"} - {first}]
    made = [result(name, mode, [1.0, 0.0]) for name in names for mode in ("base", "tuned")]
    left = {"quick": {"of": "whole", "told": "quick asks 2 of 9."}}
    said = summary(made, left_out=left)
    assert set(said.averaged) == {"whole", "law"}
    assert "quick has items of whole and counts in no average beside it." in said.notes
    assert "quick asks 2 of 9." in said.notes
    alone = summary([one for one in made if one.task != "whole"], left_out=left)
    assert set(alone.averaged) == {"quick", "law"}


@pytest.mark.parametrize("left", [{"a": "x"}, {"a": {"of": "b"}}, ["a"], 3, {"a": None}])
def test_what_is_left_out_in_no_form_that_can_be_read_is_bad_data(left):
    with pytest.raises(DataError, match="leave out"):
        summary([result("a", "base", [1.0])], left_out=left)


@pytest.mark.parametrize("metric", ["asr", "over_refusal"])
def test_where_lower_is_better_what_counts_is_what_is_lost(metric):
    """An attack that has success is not an answer that is right."""
    before, after = [1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0]
    made = [result("t", "base", before, metric), result("t", "tuned", after, metric)]
    change = summary(made).difference("tuned", "base", "t")
    assert (change.gained, change.lost, change.value) == (1, 2, 0.25)
    plain = summary(made).to_json()["modes"][1]["minus"]["base"]["tasks"]["t"]["flips"]
    assert (plain["gained"]["count"], plain["lost"]["count"]) == (1, 2)


@settings(max_examples=50, deadline=None)
@given(st.lists(answers | scores, min_size=2, max_size=4))
@example([[(0.0, 0.0)] * 3, [(1.0, 1.0)] * 5])
def test_json_has_no_negative_nought(tasks):
    made = [
        result(f"t{n}", mode, [float(pair[side]) for pair in pairs])
        for n, pairs in enumerate(tasks)
        for side, mode in enumerate(("one", "two"))
    ]
    assert not re.search(r"-0\.0\b(?!\d)", json.dumps(summary(made).to_json()))


@settings(max_examples=25, deadline=None)
@given(st.lists(answers | scores, min_size=1, max_size=4))
def test_what_is_real_excludes_zero_and_what_excludes_zero_has_a_small_p_value(tasks):
    made = [
        result(f"t{n}", mode, [float(pair[side]) for pair in pairs])
        for n, pairs in enumerate(tasks)
        for side, mode in enumerate(("one", "two"))
    ]
    said = summary(made)
    for task in said.tasks:
        change = said.difference("one", "two", task)
        if change.interval is not None:
            assert change.is_clear == (change.p_value < 0.05)
            assert change.is_clear or not change.is_real
    average = said.average_difference("one", "two")
    if average is not None:
        assert average.is_clear == average.is_real == (average.verdict != 0)
