"""Is it worse? How often chance is called harm, and that harm is found."""

import math

import numpy as np
import pytest

from taia.evaluation.scores.results import Sample, TaskResult
from taia.mending.worse import Compared, is_worse, judged

NAMES = ("questions", "instructions", "lookalikes", "harmful")


def flipped(rng, size, lost, gained, right=0.7):
    base = rng.random(size) < right
    tuned = np.where(base, rng.random(size) >= lost, rng.random(size) < gained)
    return base.astype(float), tuned.astype(float)


def made(rng, size, lost, gained):
    found = [Compared(name, "acc", *flipped(rng, size, lost, gained), True) for name in NAMES]
    sizes = rng.integers(20, 80, size)
    base = sizes * rng.lognormal(1, 0.4, size)
    change = 0.0 if lost == gained * 3 / 7 else 0.1
    tuned = base + sizes * rng.normal(change, 0.3, size)
    return [*found, Compared("texts", "nats a token", base, tuned, False, sizes)]


def test_equal_models_are_seldom_called_worse():
    """As many items lost as gained, five tests at once: at most one in twenty, whichever."""
    rng = np.random.default_rng(3)
    trials = 500
    worse = sum(bool(is_worse(judged(made(rng, 60, 0.15 * 3 / 7, 0.15)))) for _ in range(trials))
    assert worse / trials <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / trials)


def test_without_the_correction_they_would_be():
    """The control: with each test by itself, false alarms are more than that."""
    rng = np.random.default_rng(3)
    alone = 0
    for _ in range(500):
        found = judged(made(rng, 60, 0.15 * 3 / 7, 0.15))
        alone += any(
            one.change.is_real and (one.change.value < 0) == one.higher_is_better for one in found
        )
    assert alone / 500 > 0.05


def test_harm_of_twenty_points_is_found():
    rng = np.random.default_rng(4)
    found = [is_worse(judged(made(rng, 100, 0.35, 0.1))) for _ in range(100)]
    assert sum(map(bool, found)) > 95


def test_two_looks_call_equal_models_worse_no_oftener_than_one():
    """The first look at a third of the items, the second at all, if the first saw nothing."""
    rng = np.random.default_rng(6)
    trials, worse = 400, 0
    for _ in range(trials):
        base, tuned = flipped(rng, 90, 0.2 * 3 / 7, 0.2)
        few = Compared("q", "acc", base[:30], tuned[:30], True)
        whole = Compared("q", "acc", base, tuned, True)
        worse += any(is_worse(judged([one], looks=2)) for one in (few, whole))
    assert worse / trials <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / trials)


def test_better_is_not_worse():
    better = Compared("q", "acc", [0.0] * 40, [1.0] * 40, True)
    refused = Compared("l", "over_refusal", [1.0] * 40, [0.0] * 40, False)
    found = judged([better, refused])
    assert [one.verdict for one in found] == [1, 1]
    assert is_worse(found) is False


@pytest.mark.parametrize(("metric", "higher"), [("acc", True), ("asr", False)])
def test_flips_count_what_is_wanted(metric, higher):
    base, tuned = [1.0] * 30 + [0.0] * 10, [0.0] * 30 + [1.0] * 10
    (found,) = judged([Compared("t", metric, base, tuned, higher)])
    assert (found.lost, found.gained) == ((30, 10) if higher else (10, 30))
    assert found.verdict == (-1 if higher else 1)
    assert (found.base, found.tuned, found.items) == (0.75, 0.25, 40)


def test_a_loss_that_rises_is_worse_and_sums_are_by_tokens():
    base, tokens = [10.0, 40.0, 30.0, 20.0, 10.0, 40.0], [10, 40, 30, 20, 10, 40]
    tuned = [value * 1.5 + 0.1 * number for number, value in enumerate(base)]
    (found,) = judged([Compared("mine.jsonl", "nats a token", base, tuned, False, tokens)])
    assert found.base == pytest.approx(1.0)
    assert found.verdict == -1
    assert found.lost is None
    assert found.worst > 0.5


def test_nothing_to_test_is_not_an_answer():
    assert is_worse(()) is None
    alone = judged([Compared("mine", "nats a token", [1.0], [9.0], False, [1])])
    assert is_worse(alone) is None


def result(mode, scores, metric="acc"):
    samples = tuple(Sample(str(name), score, options=4) for name, score in scores.items())
    return TaskResult(
        mode, mode, "t", metric, True, samples, {}, "taia", "1", "k", {}, 1.0
    )  # fmt: skip


def test_results_are_paired_by_item():
    base = result("base", {"a": 1.0, "b": 0.0, "c": 1.0, "x": math.nan})
    tuned = result("tuned", {"c": 0.0, "a": 1.0, "x": 1.0, "new": 1.0})
    found = Compared.of(base, tuned)
    assert (list(found.base), list(found.tuned)) == ([1.0, 1.0], [0.0, 1.0])
    assert found.options == [4, 4]
    assert Compared.of(result("base", {"a": 1.0}), result("tuned", {"b": 1.0})) is None
