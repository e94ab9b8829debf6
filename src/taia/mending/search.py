"""Which candidates are worth comparing: many on a few examples, the better ones on more.

Successive halving on examples (Jamieson and Talwalkar, "Non-stochastic best arm identification and
hyperparameter optimization", AISTATS 2016): a round measures what is left of the candidates on a
further set of examples and keeps the better part. What is better is told by :mod:`.choice`; what
is on the front of both measures stays at least one round longer, so that the plot has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from taia.errors import AdapterError, InputError, SelectionError
from taia.mending.bench import Bench, Examples
from taia.mending.candidates import BASE, TUNED, Candidate, share_of
from taia.mending.choice import FINALISTS, BothEnds, Measures, ranked

#: Of the candidates, the part that stays after a round; never fewer than the finalists.
_STAY: Final = 3
#: Of those that are compared, what was learned from the examples, at most.
_LEARNED: Final = 3


class Found:
    """What the search has measured so far, each candidate on the examples of the rounds it was in.

    Attributes:
        candidates: Name → candidate, of all that could be measured.
        measured: Name → its measures, on all examples of its rounds together.
        rounds: Name → how many rounds it was in.
        refused: Name → why it means nothing here.
        cut: Name → the round, from 1, that time did not allow.
    """

    def __init__(self) -> None:
        self.candidates: dict[str, Candidate] = {}
        self.measured: dict[str, Measures] = {}
        self.rounds: dict[str, int] = {}
        self.refused: dict[str, str] = {}
        self.cut: dict[str, int] = {}
        self._ends: list[BothEnds] = []

    def begin(self, base: Measures, tuned: Measures) -> None:
        """Begin a round, with base and tuned on its examples."""
        ends = BothEnds(base, tuned)
        self._ends.append(self._ends[-1].joined(ends) if self._ends else ends)

    def take(self, candidate: Candidate, found: Measures) -> None:
        """Add a round's measures."""
        name = candidate.name
        before = self.measured.get(name)
        self.candidates[name] = candidate
        self.measured[name] = found if before is None else before.joined(found)
        self.rounds[name] = self.rounds.get(name, 0) + 1

    def of_last_round(self) -> dict[str, Measures]:
        """Those that were in every round so far."""
        last = len(self._ends)
        return {name: one for name, one in self.measured.items() if self.rounds[name] == last}

    def ends(self, name: str | None = None) -> BothEnds:
        """Base and tuned on the examples that a candidate was measured on; by default on all."""
        return self._ends[-1 if name is None else self.rounds[name] - 1]

    def best(self) -> list[Candidate]:
        """Those that were in every round, from the best on."""
        return [self.candidates[name] for name in ranked(self.of_last_round(), self.ends())]

    def finalists(self) -> list[Candidate]:
        """Those that are compared: the best, but not all of them learned from these examples."""
        best = self.best()
        too_many = [one for one in best if one.is_learned][_LEARNED:]
        return [one for one in best if one not in too_many][:FINALISTS]

    def line(self) -> dict[float, Measures]:
        """Fractions of everything that were in every round, and 1, the tuned model."""
        shares = {
            share: one
            for name, one in self.of_last_round().items()
            if (share := share_of(self.candidates[name])) is not None
        }
        return {**shares, 1.0: self.ends().tuned}


def narrow(
    bench: Bench,
    candidates: Sequence[Candidate],
    rounds: Sequence[Examples],
    *,
    cut: Mapping[str, int] | None = None,
    may_go_on: Callable[[Candidate], bool] = lambda _: True,
    told: Callable[[str, int, int], None] = lambda *_: None,
) -> Found:
    """Measure candidates, fewer in each round.

    Args:
        bench: Measures.
        candidates: What is tried, the likeliest first; base and tuned are always measured.
        rounds: Examples of each round, none twice.
        cut: Name → the round that it was left out of, where that is known from before.
        may_go_on: Whether there is time for a candidate.
        told: Told of each candidate: its name, how many are done in this round, of how many.

    Returns:
        What was measured. A candidate that the time did not allow is left out of its round.
    """
    found = Found()
    left = list(candidates)
    for number, examples in enumerate(rounds, 1):
        found.begin(bench.measure(BASE, examples), bench.measure(TUNED, examples))
        for done, candidate in enumerate(left):
            told(candidate.name, done, len(left))
            is_due = number > 1 and done < FINALISTS  # else nothing could be compared
            if (cut or {}).get(candidate.name) == number or not (is_due or may_go_on(candidate)):
                found.cut[candidate.name] = number
                continue
            try:
                found.take(candidate, bench.measure(candidate, examples))
            except (SelectionError, AdapterError, InputError) as error:
                found.refused[candidate.name] = error.problem.splitlines()[0]
        told("", len(left), len(left))
        better = _better(found.of_last_round(), found.ends())
        left = [found.candidates[name] for name in better]
    return found


def _better(found: Mapping[str, Measures], ends: BothEnds) -> list[str]:
    order = ranked(found, ends)
    count = max(FINALISTS, -(-len(order) // _STAY))
    front = [name for name in order[count:] if _is_on_front(name, found)]
    return order[:count] + front[:count]


def _is_on_front(name: str, found: Mapping[str, Measures]) -> bool:
    """Whether no other candidate is at least as good in both measures, and better in one."""
    own = found[name].loss.mean, found[name].divergence.mean
    others = ((one.loss.mean, one.divergence.mean) for one in found.values())
    return not any(a <= own[0] and b <= own[1] and (a, b) != own for a, b in others)
