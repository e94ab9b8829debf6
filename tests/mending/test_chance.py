"""Random selections, and how long a candidate takes to make."""

from itertools import islice

import pytest

import switchables
from taia.mending.candidates import BASE, TAIA, Candidate, candidates, line, share_of
from taia.mending.chance import by_chance, random_selections
from taia.mending.effort import seconds_to_make
from taia.mending.places import Place
from taia.selection import Selection


@pytest.fixture(scope="module")
def model():
    return switchables.KINDS["lora llama"][0]()


def drawn(model, seed, count=5):
    return [one.selection for one in islice(random_selections(model, seed), count)]


def test_the_same_seed_draws_the_same_and_another_one_others(model):
    assert drawn(model, 3) == drawn(model, 3)
    assert len({*drawn(model, 3), *drawn(model, 4)}) == 10


def test_a_projection_has_one_share_in_a_third_of_the_layers(model):
    labels = {part.name: part.label for part in model.changed}
    for text in drawn(model, 0):
        alphas = Selection.parse(text).alphas(labels)
        assert all(0 <= alpha <= 1 for alpha in alphas.values())
        by_place = {}
        for name, alpha in alphas.items():
            by_place.setdefault(Place.of(labels[name]), set()).add(alpha)
        assert all(len(values) == 1 for values in by_place.values())
        assert len({alpha for values in by_place.values() for alpha in values}) > 5


class Counting:
    """A bench that counts, as every one does."""

    def __init__(self, model):
        self.model, self.evaluations, self.asked = model, 7, []

    def measure(self, candidate, examples):
        self.evaluations += 1
        self.asked.append(candidate.selection)
        return candidate


@pytest.mark.parametrize(
    ("wanted", "times", "count"), [(6, 100, 6), (6, 0, 2), (6, 3, 5), (0, 9, 0)]
)
def test_as_many_as_are_wanted_or_time_allows_and_none_counts(model, wanted, times, count):
    left = iter([True] * times + [False] * 100)
    bench = Counting(model)
    found = by_chance(
        bench, None, seed=0, wanted=wanted, may_go_on=lambda: next(left), told=lambda *_: None
    )
    assert len(found) == len(bench.asked) == count
    assert bench.evaluations == 7


def seconds(text, changed, is_adapter=True):
    return seconds_to_make(Candidate("x", "all", "", 1, text), changed, is_adapter=is_adapter)


def test_what_calculates_nothing_takes_no_time(model):
    assert seconds_to_make(TAIA, model.changed, is_adapter=True) == 0
    assert seconds("lines:alpha=0.5", model.changed) == 0
    assert seconds("dg-hard", model.changed) == 0  # the core of a LoRA


def test_whole_spectra_take_longer_than_entries_and_entries_by_their_number(model):
    magnitude, intruder = seconds("magnitude", model.changed), seconds("intruder", model.changed)
    assert intruder > magnitude > 0
    half = model.changed[: len(model.changed) // 2]
    assert 0 < seconds("magnitude", half) < magnitude
    assert seconds("dg-hard", model.changed, is_adapter=False) > 0


def test_candidates_of_an_adapter_are_those_that_mean_something_there():
    adapter, whole = (
        {one.method.partition(":")[0] for one in candidates(is_adapter) if one.method}
        for is_adapter in (True, False)
    )
    assert whole - adapter == {"dg-hard"}
    assert {"lines", "magnitude", "revert-largest", "dare", "intruder"} <= adapter
    for one in candidates(True):
        assert str(Selection.parse(one.selection))
        assert one.about


def test_shares_of_the_line_are_told_from_others():
    assert [share_of(one) for one in line()] == [n / 10 for n in range(9, 0, -1)]
    others = [BASE, TAIA, Candidate("x", "0.5*mlp", ""), Candidate("x", "0.5*all", "", 1, "dare")]
    assert [share_of(one) for one in others] == [None] * 4
