"""What is learned from the examples: candidates, and where learning and harm lie."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from taia.evaluation.settings import Watch
from taia.mending.attribution import attribute
from taia.mending.bench import Examples
from taia.mending.candidates import Candidate
from taia.mending.choice import TARGET, BothEnds
from taia.mending.journal import Journal, digest
from taia.mending.learned import LearningStep, learn
from taia.mending.measures import Meter
from taia.mending.places import Place
from taia.mending.simpler import Simpler, simpler
from taia.mending.why import Attributed
from taia.text import counted

if TYPE_CHECKING:
    from taia.runtime.switchable import SwitchableModel

#: Of the time, what steps may take; measuring and simplifying what they found takes the rest.
_STEPS: Final = 0.4
#: Simpler forms that are handed on, from the one that is as good.
_FORMS: Final = 2
#: Learnt rows and kept prompts that harm and learning are attributed on, and α that are tried.
_ATTRIBUTED: Final = 12
_POINTS: Final = 5
#: How many examples run forward takes as long: backward takes twice as long as forward.
ATTRIBUTION: Final = 3 * _POINTS * 2 * _ATTRIBUTED


class _OutOfTimeError(Exception):
    """There is no time to simplify any further."""


def learnt_candidates(
    model: SwitchableModel,
    examples: Examples,
    ends: BothEnds,
    journal: Journal,
    *,
    start: float,
    seconds: float,
    seed: int,
    watch: Watch,
) -> list[Candidate]:
    """α learned for each place, and simpler forms of it.

    Args:
        model: The live model.
        examples: What it learns from.
        ends: Base and tuned on the same.
        journal: What is known already.
        start: The α of everything to begin at.
        seconds: How long it may take.
        seed: Of the order of examples.
        watch: Told how far it is.

    Raises:
        InputError: If nothing of the update can have a share.
    """
    key = digest("learned", examples.key, seed)
    known = journal.get(key)
    if known is None:

        def step(one: LearningStep) -> None:
            watch("Learning what to keep", one.step, None)

        def form(one: Simpler) -> None:
            forms.append(one)
            watch("Simplifying it", one.numbers, None)
            if time.monotonic() > end:
                raise _OutOfTimeError

        forms: list[Simpler] = []
        end = time.monotonic() + seconds
        watch("Learning what to keep", 0, None)
        found = learn(
            model,
            examples.learn,
            examples.keep,
            start=start,
            ceiling=ends.ceiling(TARGET),
            seconds=_STEPS * seconds,
            seed=seed,
            progress=step,
        )
        with suppress(_OutOfTimeError):
            simpler(Meter(model, examples.learn, examples.keep), found, progress=form)
        known = [[str(found.selection), len(set(found.alphas.values())), ""]]
        known += [[str(one.selection), one.numbers, one.grouping] for one in forms[-_FORMS:]]
        journal.put(key, known)
    made = [
        Candidate(
            "learned" if not grouping else f"learned, {counted(numbers, 'number')}",
            selection,
            f"{counted(numbers, 'share')} of the update, learned from your rows",
            numbers,
            is_learned=True,
        )
        for selection, numbers, grouping in known
    ]
    return list({one.name: one for one in made}.values())


def places_of(
    model: SwitchableModel, examples: Examples, journal: Journal, is_time: bool, watch: Watch
) -> list[Attributed]:
    """Where learning and harm lie, by projection; empty where it is not known and no time is."""
    some = examples.first(_ATTRIBUTED, _ATTRIBUTED)
    key = digest("attributed", some.key, _POINTS)
    known = journal.get(key)
    if known is None:
        if not is_time:
            journal.put(key, [])
            return []
        watch("Where learning and harm lie", 0, _POINTS)
        done = 0

        def point(_: object) -> None:
            nonlocal done
            done += 1
            watch("Where learning and harm lie", done, _POINTS)

        found = attribute(Meter(model, some.learn, some.keep), points=_POINTS, progress=point)
        sides = (found.loss.by_place, found.divergence.by_place)
        known = [list(row) for row in _by_projection(*sides)]
        journal.put(key, known)
    return [Attributed(*row) for row in known]


def _by_projection(
    learnt: Mapping[Place, float], harm: Mapping[Place, float]
) -> Sequence[tuple[str, float, float]]:
    """Projection → its share of each, the parts that were against the whole counting against it."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for place, value in learnt.items():
        sums[place.projection][0] += value
        sums[place.projection][1] += harm[place]
    whole = [sum(each[side] for each in sums.values()) for side in (0, 1)]
    if not all(whole):
        return []
    return [(name, a / whole[0], b / whole[1]) for name, (a, b) in sums.items()]
