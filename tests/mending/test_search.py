"""The search narrows: on made-up measures whose truth is known."""

import pytest

from taia.errors import AdapterError, SelectionError
from taia.mending.candidates import Candidate, line
from taia.mending.choice import FINALISTS, Measures
from taia.mending.measures import Nats
from taia.mending.search import narrow


def flat(value, size):
    return Nats((value,) * size, (1,) * size)


class Bench:
    """Gives what a table says; every call is written down."""

    def __init__(self, truth, sizes):
        self.truth = {"base": (5.0, 0.0), "tuned": (1.0, 1.0), **truth}
        self.sizes = sizes
        self.calls = []

    def measure(self, candidate, examples):
        self.calls.append((candidate.name, examples))
        value = self.truth[candidate.name]
        if isinstance(value, Exception):
            raise value
        loss, divergence = value
        return Measures(*(flat(one, self.sizes[examples]) for one in (loss, divergence)))


def run(truth, **options):
    bench = Bench(truth, {"first": 2, "second": 4})
    candidates = [Candidate(name, name, "") for name in truth]
    return bench, narrow(bench, candidates, ["first", "second"], **options)


MANY = {f"c{number:02d}": (1.0, 0.9 - number / 100) for number in range(30)}


def test_all_are_tried_on_a_few_and_the_better_on_the_rest():
    bench, found = run(MANY)
    first = [name for name, examples in bench.calls if examples == "first"]
    second = [name for name, examples in bench.calls if examples == "second"]
    assert sorted(first) == sorted(["base", "tuned", *MANY])
    assert len(second) - 2 == 10
    assert set(second) >= {f"c{number}" for number in range(20, 30)}
    assert [one.name for one in found.best()[:3]] == ["c29", "c28", "c27"]


def test_never_fewer_than_are_compared_go_on():
    few = dict(list(MANY.items())[:6])
    bench, _ = run(few)
    assert len([1 for _, examples in bench.calls if examples == "second"]) - 2 == FINALISTS


def test_measures_of_rounds_are_joined_and_compared_with_their_own_ends():
    _, found = run(MANY)
    best, worst = found.measured["c29"], found.measured["c00"]
    assert (len(best.loss.nats), len(worst.loss.nats)) == (6, 2)
    assert len(found.ends("c29").tuned.loss.nats) == len(found.ends().tuned.loss.nats) == 6
    assert len(found.ends("c00").tuned.loss.nats) == 2


def test_the_front_stays_though_it_learns_too_little():
    bench, found = run({**MANY, "little": (2.0, 0.05)})
    assert ("little", "second") in bench.calls
    assert found.best()[-1].name == "little"


def test_what_means_nothing_here_is_left_out_and_told():
    truth = {
        **MANY,
        "taif": SelectionError("mlp matches none of the 4 tensors\n  mlp\n  ^", "x"),
        "dora": AdapterError("DoRA has no fractions", "x"),
    }
    _, found = run(truth)
    assert found.refused == {
        "taif": "mlp matches none of the 4 tensors",
        "dora": "DoRA has no fractions",
    }
    assert not {"taif", "dora"} & set(found.measured)


def test_what_there_is_no_time_for_is_told():
    left = iter([True] * 4 + [False] * 100)
    bench, found = run(MANY, may_go_on=lambda _: next(left))
    never = {name for name, number in found.cut.items() if number == 1}
    assert len(never) == len(MANY) - 4
    assert never.isdisjoint(found.measured)
    # Those that were in the first round are compared all the same, or nothing could be.
    assert len([1 for _, examples in bench.calls if examples == "second"]) == 2 + 4


def test_what_was_left_out_before_is_left_out_again():
    left = iter([True] * 9 + [False] * 100)
    _, first = run(MANY, may_go_on=lambda _: next(left))
    _, again = run(MANY, cut=first.cut)
    assert again.cut == first.cut
    assert again.rounds == first.rounds


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()])
def test_other_failures_are_not_swallowed(error):
    bench = Bench({"x": (1, 1)}, {"first": 1})
    bench.measure = lambda *_: (_ for _ in ()).throw(error)
    with pytest.raises(type(error)):
        narrow(bench, [Candidate("x", "x", "")], ["first"])


def test_the_line_is_nine_tenths_down_to_one():
    found = list(line())
    assert [one.selection for one in found] == [f"0.{tenth}*all" for tenth in range(9, 0, -1)]
    assert {one.numbers for one in found} == {1}


def test_of_those_compared_three_at_most_are_learned():
    found = run(MANY)[1]
    for number in range(5):
        candidate = Candidate(f"learned {number}", "all", "", is_learned=True)
        measures = Measures(flat(1.0, 2), flat(0.1 + number / 100, 2))
        for _ in range(2):
            found.take(candidate, measures)
    names = [one.name for one in found.finalists()]
    assert names == ["learned 0", "learned 1", "learned 2", "c29", "c28"]
