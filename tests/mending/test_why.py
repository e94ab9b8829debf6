"""Why none, and what to change: each sentence only where its number is."""

import pytest

from taia.mending.choice import BothEnds, Decision, Measures
from taia.mending.measures import Nats
from taia.mending.why import Attributed, Evidence, advice, likeness, reasons


def one(loss, divergence):
    return Measures(*(Nats((10.0 * value,) * 4, (10,) * 4) for value in (loss, divergence)))


ENDS = BothEnds(one(5.0, 0.0), one(1.0, 1.0))
SAME = [Attributed("a", 0.7, 0.65), Attributed("b", 0.2, 0.25), Attributed("c", 0.1, 0.1)]
APART = [Attributed("q_proj", 0.6, 0.1), Attributed("down_proj", 0.1, 0.6),
         Attributed("up_proj", 0.3, 0.3)]  # fmt: skip


def evidence(**given):
    return Evidence(**{"line": {1.0: ENDS.tuned}, "ends": ENDS, **given})


def test_where_one_was_chosen_there_is_no_why():
    assert reasons(Decision("x", "chosen"), True, evidence()) == []


def test_no_harm_is_the_first_reason():
    (why,) = reasons(None, False, evidence())
    assert "No harm was found" in why


def test_nothing_learnt_is_told_with_both_losses():
    ends = BothEnds(one(1.0, 0.0), one(1.25, 1.0))
    (why,) = reasons(None, True, evidence(ends=ends), learns=False)
    assert "1.250 against 1.000" in why


@pytest.mark.parametrize(("places", "told"), [(SAME, True), (APART, False), ([], False)])
def test_the_same_place_is_told_where_the_shares_are_alike(places, told):
    why = " ".join(reasons(Decision(None, "none within"), True, evidence(places=places)))
    assert "98%" in why
    assert ("same places" in why) is told


def test_within_noise_says_how_much():
    from taia.mending.paired import difference

    gain = difference([1.0, 2.0, 0.5], [0.9, 2.2, 0.4], [1, 1, 1])
    (why,) = reasons(Decision(None, "within noise", "x", ("x",), gain, 0.9), True, evidence())
    assert "may be chance" in why
    assert f"{gain.low:+.3f} to {gain.high:+.3f}" in why


@pytest.mark.parametrize(("size", "told"), [(0.3, True), (0.11, True), (0.1, False), (None, False)])
def test_a_large_update_is_called_so(size, told):
    why = " ".join(reasons(Decision(None, "none within"), True, evidence(size=size)))
    changes = " ".join(each.change for each in advice(evidence(size=size, adapter={"r": 16})))
    assert ("update is large" in why) is told
    assert ("rank below 16" in changes) is told


def test_half_of_it_being_enough_means_train_less():
    line = {0.3: one(1.5, 0.2), 0.4: one(1.07, 0.3), 0.5: one(1.04, 0.4), 1.0: ENDS.tuned}
    (first, *_) = advice(evidence(line=line, recipe={"learning_rate": 5e-3}))
    assert "Train less" in first.change
    assert "0.005" in first.change
    assert "0.002" in first.change
    assert "40% of the update already has 98%" in first.reason
    (first, *_) = advice(evidence(line=line, recipe={"num_train_epochs": 3}))
    assert "3 epochs" in first.change
    line[0.5] = one(1.2, 0.4)
    assert not any("Train less" in each.change for each in advice(evidence(line=line)))


def test_a_place_that_harms_more_than_it_learns_is_named_with_both():
    (found,) = advice(evidence(places=APART))
    assert found.change == "Leave down_proj frozen."
    assert "60%" in found.reason
    assert "10%" in found.reason


def test_where_nothing_else_is_seen_it_is_replay():
    (found,) = advice(evidence(places=SAME))
    assert "replay" in found.change
    assert "1.00 nats" in found.reason
    assert advice(evidence(ends=BothEnds(one(5.0, 0.0), one(1.0, 0.0)))) == []


def test_likeness_is_pearsons():
    import numpy as np

    rng = np.random.default_rng(0)
    rows = rng.random((9, 2))
    there = float(np.corrcoef(rows.T)[0, 1])
    assert likeness([Attributed("x", *row) for row in rows]) == pytest.approx(there)
    assert likeness(APART) < 0
    assert likeness(SAME[:2]) is None
    assert likeness([Attributed("x", 0.3, value) for value in (1, 2, 3)]) is None
