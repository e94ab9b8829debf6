"""Conditions on scores: what they say, and that a bad one is refused before any work."""

from dataclasses import replace

import pytest

from eval_runs import group
from taia.errors import InputError
from taia.evaluation.scores.gates import read_gate, score
from taia.evaluation.scores.results import Sample, TaskResult
from taia.evaluation.scores.summary import Summary

MODES = ("base", "taia", "all - 0.5*mlp", "v1.5")
TASKS = ("math", "arc", "all - 0.5")
SCORES = {
    ("base", None): 0.5,
    ("taia", None): 0.6,
    ("all - 0.5*mlp", None): 0.4,
    ("v1.5", None): 0.3,
    ("base", "math"): 0.2,
    ("taia", "math"): 0.18,
    ("v1.5", "arc"): 0.9,
}


def is_met(text: str) -> bool:
    gate = read_gate(text, MODES, TASKS)
    return gate.failure(lambda mode, task: SCORES[mode, task]) is None


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("taia >= base", True),
        ("base >= taia", False),
        ("taia>=base+0.1", True),
        ("taia > base + 0.1", False),
        ("taia.math >= base.math - 0.02", True),
        ("taia.math >= base.math - 0.01", False),
        ("taia.math >= base", False),
        ("taia > 0.5", True),
        ("taia >= .7", False),
        ("0.7 > taia", True),
        ("all - 0.5*mlp >= base - 0.1", True),
        ("all - 0.5*mlp >= base - 0.05", False),
        ("v1.5.arc >= 0.9", True),
        ("v1.5 - 0.1 >= 0.2", True),
        ("base >= base", True),
        ("base > base", False),
        ("taia.math <= 0.18", True),
        ("taia.math < 0.18", False),
        ("taia.math <= base.math - 0.02", True),
        ("taia.math <= base.math - 0.03", False),
        ("base < taia", True),
        ("taia<base", False),
        ("0.2<=base.math", True),
        ("base <= base", True),
        ("base < base", False),
        ("all - 0.5*mlp < base - 0.05", True),
    ],
)
def test_what_it_says(text, met):
    assert is_met(text) == met


@pytest.mark.parametrize(
    "text",
    [
        "",
        "taia",
        "taia >=",
        ">= base",
        "taia = base",
        "taia >= base >= base",
        "0.1 <= taia <= 0.9",
        "taia <> base",
        "taia =< base",
        "<= base",
        "taia <",
        "taia >= tuned",
        "taia.svamp >= base",
        "taia >= base * 2",
        "taia >= base - mlp",
        "taia => base",
    ],
)
def test_a_bad_one_is_refused(text):
    with pytest.raises(InputError) as told:
        read_gate(text, MODES, TASKS)
    assert repr(text) in told.value.problem


def test_the_failure_tells_both_sides():
    gate = read_gate("taia >= base + 0.25", MODES, TASKS)
    told = gate.failure(lambda mode, task: SCORES[mode, task])
    assert told == "'taia >= base + 0.25' is not met: 0.6000 against 0.7500"


def result(task: str, rights: list[int], metric: str = "acc") -> TaskResult:
    samples = tuple(Sample(str(i), float(right)) for i, right in enumerate(rights))
    better = metric != "asr"
    return TaskResult("taia", "t", task, metric, better, samples, {}, "p", "1", "k", {}, 0.0)


def test_a_score_is_what_the_table_shows():
    results = [result("a", [1, 1, 1, 0]), result("b", [0, 1]), result("c", [1, 0, 0, 0, 0, 0])]
    results.append(result("advbench", [1, 1], "asr"))
    apart = Summary.of(results, {})
    assert score(apart, "taia", "a") == 0.75
    assert score(apart, "taia", None) == pytest.approx((3 / 4 + 1 / 2 + 1 / 6) / 3)
    grouped = Summary.of(results, {"groups": {"g": group(["b", "c"])}})
    assert score(grouped, "taia", "g") == 2 / 8
    assert score(grouped, "taia", "c") == pytest.approx(1 / 6)
    assert score(grouped, "taia", None) == pytest.approx((3 / 4 + 2 / 8) / 2)


def test_the_average_of_what_is_not_averaged_is_a_mean():
    apart = [result("a", [1, 0]), result("b", [1, 1], "f1")]
    mixed = Summary.of(apart, {"groups": {"g": group(["a", "b"])}})
    assert score(mixed, "taia", "g") == 0.75
    own = [replace(one, metrics={"acc,none": 0.25}) for one in apart]
    alike = group(["a", "b"], by_size=False)
    assert score(Summary.of(own, {"groups": {"g": alike}}), "taia", "g") == 0.25
    only = Summary.of([result("a", [1, 0])], {})
    assert score(only, "taia", None) == 0.5
    unsafe = Summary.of([result("advbench", [1, 1, 0, 0], "asr")], {})
    assert score(unsafe, "taia", None) == 0.5
