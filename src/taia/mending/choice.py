"""Which candidate is kept: as much of what was learnt, the least of what changed, the simplest.

Everything here is a calculation on numbers that others have measured. A candidate is *within* where
its loss on learnt rows is at most the tuned model's plus a share ε of what the fine-tune gained:

    loss ≤ L_tuned + ε · (L_base − L_tuned).

Of those within, less divergence from base, KL(base ‖ candidate), is better. Two whose divergences
cannot be told apart, or differ by no more than ε of the tuned model's, are a tie, and a tie goes to
the simpler: the one with fewer numbers that were chosen by looking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from taia.evaluation.scores.statistics import Contrast, holm
from taia.mending.paired import difference

if TYPE_CHECKING:
    from taia.mending.measures import Nats

#: Of what the fine-tune gained, what may be given back; of its divergence, what is no difference.
EPSILON: Final = 0.02
#: Of what the fine-tune gained, what the search itself may give back: the rest is for noise.
TARGET: Final = EPSILON / 2
#: How many the search hands on to be compared.
FINALISTS: Final = 5
_LEVEL: Final = 0.05

#: Why a candidate was chosen, or none was.
Verdict: TypeAlias = Literal["chosen", "none within", "within noise"]


@dataclass(frozen=True)
class Measures:
    """The two smooth measures of one candidate on one set of examples.

    Attributes:
        loss: Of learnt rows, nats by example.
        divergence: From base along kept prompts, KL(base ‖ candidate), nats by example.
    """

    loss: Nats
    divergence: Nats

    def joined(self, other: Measures) -> Measures:
        """The same on both sets of examples."""
        return Measures(_joined(self.loss, other.loss), _joined(self.divergence, other.divergence))


@dataclass(frozen=True)
class BothEnds:
    """Base and tuned on the same examples as the candidates: what all is measured against."""

    base: Measures
    tuned: Measures

    def joined(self, other: BothEnds) -> BothEnds:
        """The same on both sets of examples."""
        return BothEnds(self.base.joined(other.base), self.tuned.joined(other.tuned))

    @property
    def gain(self) -> float:
        """What the fine-tune gained on learnt rows, nats a token."""
        return self.base.loss.mean - self.tuned.loss.mean

    @property
    def gained(self) -> Contrast:
        """The same with its interval."""
        base, tuned = self.base.loss, self.tuned.loss
        return difference(base.nats, tuned.nats, base.tokens)

    def ceiling(self, share: float = EPSILON) -> float:
        """The loss up to which a share of that gain, at most, is given back."""
        return self.tuned.loss.mean + share * max(0.0, self.gain)

    def kept(self, found: Measures) -> float:
        """The share of the gain that a candidate has; nan where nothing was gained."""
        return (
            (self.base.loss.mean - found.loss.mean) / self.gain if self.gain > 0 else float("nan")
        )

    def is_within(self, found: Measures, share: float = EPSILON) -> bool:
        """Whether a candidate gives back no more than that share of what was gained."""
        return found.loss.mean <= self.ceiling(share)

    def restored(self, found: Measures) -> float:
        """The share of the tuned model's divergence that a candidate takes back."""
        whole = self.tuned.divergence.mean
        return 1 - found.divergence.mean / whole if whole > 0 else float("nan")


def ranked(found: Mapping[str, Measures], ends: BothEnds, share: float = EPSILON) -> list[str]:
    """Candidates from the best on: those within by their divergence, then others by their loss."""

    def place(name: str) -> tuple[bool, float]:
        within = ends.is_within(found[name], share)
        return not within, (found[name].divergence if within else found[name].loss).mean

    return sorted(found, key=place)


@dataclass(frozen=True)
class Decision:
    """What was decided on the examples to select on.

    Attributes:
        name: The candidate that was chosen; None for none.
        verdict: Why.
        best: The one within with the least divergence; None where none is within.
        tied: Those that cannot be told from it, itself among them.
        gain: The tuned model's divergence minus that of the chosen one, or of the best.
        corrected: The gain's p-value, corrected for all that were compared.
    """

    name: str | None
    verdict: Verdict
    best: str | None = None
    tied: tuple[str, ...] = ()
    gain: Contrast | None = None
    corrected: float | None = None


def choose(found: Mapping[str, Measures], ends: BothEnds, numbers: Mapping[str, int]) -> Decision:
    """Choose one of the finalists, or none.

    Args:
        found: Finalist → its measures on the examples to select on.
        ends: Base and tuned on the same.
        numbers: Finalist → how many numbers in it were chosen by looking.

    Returns:
        The decision. None is chosen where no finalist is within, or where the best one's gain over
        the tuned model is no more than chance, corrected for all that were compared (Holm).
    """
    within = {name: one for name, one in found.items() if ends.is_within(one)}
    if not within:
        return Decision(None, "none within")
    best = min(within, key=lambda name: (within[name].divergence.mean, numbers[name]))
    gains = {name: _gain(ends.tuned, one) for name, one in within.items()}
    # All finalists were looked at, within or not.
    p_values = dict.fromkeys(found, 1.0)
    p_values |= {name: 1.0 if g.p_value is None else g.p_value for name, g in gains.items()}
    corrected = holm(p_values)
    tied = tuple(name for name in within if _is_tie(within[name], within[best], ends))
    real = [name for name in tied if gains[name].value > 0 and corrected[name] < _LEVEL]
    if not real:
        return Decision(None, "within noise", best, tied, gains[best], corrected[best])
    name = min(real, key=lambda one: (numbers[one], within[one].divergence.mean))
    return Decision(name, "chosen", best, tied, gains[name], corrected[name])


@dataclass(frozen=True)
class Optimism:
    """How much better the choice looked where it was searched for than where it was told of.

    Attributes:
        kept: Share of the gain kept, on search minus on report.
        restored: Share of the divergence taken back, on search minus on report.
    """

    kept: float
    restored: float

    @classmethod
    def of(cls, search: tuple[Measures, BothEnds], report: tuple[Measures, BothEnds]) -> Optimism:
        """From a candidate's measures on both sets of examples."""
        (there, ends), (here, other) = search, report
        return cls(ends.kept(there) - other.kept(here), ends.restored(there) - other.restored(here))


def best_of(found: Sequence[Measures], ends: BothEnds) -> Measures | None:
    """The best of random selections: the least divergence of those within; None where none is."""
    within = [one for one in found if ends.is_within(one)]
    return min(within, key=lambda one: one.divergence.mean, default=None)


def _gain(tuned: Measures, one: Measures) -> Contrast:
    there, here = tuned.divergence, one.divergence
    return difference(there.nats, here.nats, there.tokens)


def _is_tie(one: Measures, best: Measures, ends: BothEnds) -> bool:
    apart = difference(one.divergence.nats, best.divergence.nats, best.divergence.tokens)
    small = apart.value <= EPSILON * ends.tuned.divergence.mean
    return small or not (apart.interval is not None and apart.interval[0] > 0)


def _joined(one: Nats, other: Nats) -> Nats:
    return replace(one, nats=(*one.nats, *other.nats), tokens=(*one.tokens, *other.tokens))
