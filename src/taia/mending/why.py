"""Why nothing was chosen, and what to change in training: each sentence with what it comes from.

Everything is a calculation on what was measured. A rule speaks only where its number does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from taia.mending.choice import EPSILON, BothEnds, Decision, Measures

#: Of what was learnt, the share that half of the update must still have to be called too large.
_OVERSHOT: Final = 1 - EPSILON
#: ‖ΔW‖/‖W‖ above which an update is called large.
_LARGE: Final = 0.10
#: By how much a place's share of the harm must exceed its share of what was learnt.
_APART: Final = 0.15
#: Correlation over places above which learning and harm are called in the same place.
_SAME: Final = 0.7


@dataclass(frozen=True, slots=True)
class Advice:
    """What to change in training.

    Attributes:
        change: What.
        reason: What was measured.
    """

    change: str
    reason: str


@dataclass(frozen=True, slots=True)
class Attributed:
    """Where what was learnt and what was harmed lies.

    Attributes:
        place: A projection or component.
        learnt: Its share of what the fine-tune gained on learnt rows.
        harm: Its share of the divergence from base.
    """

    place: str
    learnt: float
    harm: float


@dataclass(frozen=True)
class Evidence:
    """What the sentences go by.

    Attributes:
        line: Share of the whole update → its measures, with 1 the tuned model.
        ends: Base and tuned on the same examples.
        places: Where learning and harm lie; empty where it was not measured.
        size: ‖ΔW‖/‖W‖ of the whole update; None where it was not measured.
        recipe: What the training's record says, as far as there is one.
        adapter: What the adapter's configuration says, likewise.
    """

    line: Mapping[float, Measures]
    ends: BothEnds
    places: Sequence[Attributed] = ()
    size: float | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    adapter: Mapping[str, Any] = field(default_factory=dict)


def reasons(
    decision: Decision | None, worse: bool | None, evidence: Evidence, *, learns: bool = True
) -> list[str]:
    """Why no candidate was chosen; empty where one was.

    Args:
        decision: What was decided; None where nothing was searched.
        worse: Whether the fine-tune is worse.
        evidence: What was measured.
        learns: Whether the fine-tuned model is clearly better than base on what it was to learn.
    """
    if decision is not None and decision.name is not None:
        return []
    if worse is False and decision is None:
        return ["No harm was found, so there is nothing to mend: keep the fine-tuned model."]
    if not learns:
        return [
            "The fine-tuned model is not clearly better than the base on what it was to learn "
            f"({evidence.ends.tuned.loss.mean:.3f} against {evidence.ends.base.loss.mean:.3f} "
            "nats a token): there is nothing to keep."
        ]
    said = []
    if decision is not None and decision.verdict == "none within":
        said.append(
            f"No candidate keeps {1 - EPSILON:.0%} of what was learnt: every one that changes less "
            "also knows less."
        )
        if (alike := likeness(evidence.places)) is not None and alike >= _SAME:
            said.append(
                "Learning and harm are in the same places (correlation of their shares "
                f"{alike:.2f}), so no part can be kept without the other."
            )
    elif decision is not None and decision.gain is not None:
        low, high = decision.gain.interval or (None, None)
        told = "" if low is None else f" (95% interval {low:+.3f} to {high:+.3f} nats a token)"
        said.append(
            f"The best candidate changes {decision.gain.value:.3f} nats a token less than the "
            f"fine-tuned model, which may be chance{told}: give more rows, or a longer --budget."
        )
    if evidence.size is not None and evidence.size > _LARGE:
        said.append(f"The update is large: {evidence.size:.0%} of the weights' own size.")
    return said


def advice(evidence: Evidence) -> list[Advice]:
    """What to change in training, the surest first; empty where nothing measured says so."""
    found = []
    if (kept := _half(evidence)) is not None and kept >= _OVERSHOT:
        smaller = min(
            (a for a, one in evidence.line.items() if evidence.ends.is_within(one)), default=0.5
        )
        change = "Train less: a lower learning rate, or fewer steps"
        rate, epochs = evidence.recipe.get("learning_rate"), evidence.recipe.get("num_train_epochs")
        if isinstance(rate, int | float) and rate > 0:
            change += f" (the rate was {rate:g}; try {rate * smaller:.1g})"
        elif isinstance(epochs, int | float) and epochs > 1:
            change += f" (there were {epochs:g} epochs)"
        found.append(
            Advice(
                f"{change}.",
                f"{smaller:.0%} of the update already has {_kept_at(evidence, smaller):.0%} of "
                "what was learnt: training went further than the task asked.",
            )
        )
    if evidence.size is not None and evidence.size > _LARGE:
        rank = evidence.adapter.get("r")
        change = "Make a smaller update: a lower rate, weight decay"
        change += f", or a rank below {rank}" if isinstance(rank, int) and rank > 4 else ""
        found.append(
            Advice(f"{change}.", f"The update is {evidence.size:.0%} of the weights' own size.")
        )
    for place in sorted(evidence.places, key=lambda one: one.learnt - one.harm)[:2]:
        if place.harm - place.learnt >= _APART:
            found.append(
                Advice(
                    f"Leave {place.place} frozen.",
                    f"{place.place} made {place.harm:.0%} of the change in general answers, and "
                    f"{place.learnt:.0%} of what was learnt.",
                )
            )
    if not found and evidence.ends.tuned.divergence.mean > 0 and evidence.ends.gain > 0:
        found.append(
            Advice(
                "Mix general data into training (replay): start with one row in ten.",
                f"The fine-tuned model is {evidence.ends.tuned.divergence.mean:.2f} nats a token "
                "from base on general prompts, and no single place makes much more of that than of "
                "what was learnt.",
            )
        )
    return found


def likeness(places: Sequence[Attributed]) -> float | None:
    """Pearson's correlation of both shares over places; None of fewer than three, or of equals."""
    if len(places) < 3:
        return None
    mean_learnt = sum(one.learnt for one in places) / len(places)
    mean_harm = sum(one.harm for one in places) / len(places)
    rows = [(one.learnt - mean_learnt, one.harm - mean_harm) for one in places]
    squares = sum(a * a for a, _ in rows) * sum(b * b for _, b in rows)
    return float(sum(a * b for a, b in rows) / squares**0.5) if squares > 0 else None


def _half(evidence: Evidence) -> float | None:
    """The share of what was learnt that half of the update has; None where it was not measured."""
    return _kept_at(evidence, 0.5) if 0.5 in evidence.line and evidence.ends.gain > 0 else None


def _kept_at(evidence: Evidence, share: float) -> float:
    return evidence.ends.kept(evidence.line[share])
