"""What a search gave, as values and as the file ``mend.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from taia.checkpoint.reading import read_json
from taia.errors import DataError
from taia.evaluation.scores.statistics import Contrast
from taia.mending.candidates import Candidate
from taia.mending.choice import BothEnds, Decision, Measures, Optimism
from taia.mending.journal import MEND_FILE, SCHEMA
from taia.mending.paired import difference
from taia.mending.why import Advice, Attributed
from taia.mending.worse import Finding

ReachedStage: TypeAlias = Literal["search", "select"]


@dataclass(frozen=True, slots=True)
class ShareEstimate:
    """A share with its interval; None where none can be given."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """What a candidate keeps and what it changes, on one set of examples.

    Attributes:
        loss: Of learnt rows, nats a token.
        divergence: From base, nats a token.
        kept: The share of what the fine-tune gained.
        restored: The share of the fine-tune's divergence from base that is taken back.
        within: Whether it gives back no more of the gain than it may.
        examples: Learnt rows and kept prompts that it was measured on.
    """

    loss: float
    divergence: float
    kept: ShareEstimate
    restored: ShareEstimate
    within: bool
    examples: tuple[int, int]

    @classmethod
    def of(cls, one: Measures, ends: BothEnds) -> Cost:
        """From what was measured; intervals take the gain and the tuned divergence as they are."""
        lost = difference(one.loss.nats, ends.tuned.loss.nats, one.loss.tokens)
        there, here = ends.tuned.divergence, one.divergence
        back = difference(there.nats, here.nats, here.tokens)
        return cls(
            one.loss.mean,
            one.divergence.mean,
            _share(1.0, lost.turned(), ends.gain),
            _share(0.0, back, there.mean),
            ends.is_within(one),
            (len(one.loss.tokens), len(one.divergence.tokens)),
        )


@dataclass(frozen=True, slots=True)
class CandidateRow:
    """A candidate in the table.

    Attributes:
        candidate: It.
        stage: How far it came: measured while searching, or compared with the best.
        cost: What was measured there.
    """

    candidate: Candidate
    stage: ReachedStage
    cost: Cost


@dataclass(frozen=True)
class Mended:
    """What a search gave.

    Attributes:
        output: Its folder.
        facts: What was searched, with what settings, when, and how long it took.
        worse: Whether the fine-tune is worse; None where nothing could be tested.
        findings: What each test says.
        learnt: The gain of the fine-tune on learnt rows, with its interval: base's loss minus the
            tuned model's.
        base_loss: Base's loss on learnt rows.
        rows: Base, tuned, and every candidate that was measured.
        decision: What was decided; None where nothing was searched.
        choice: The candidate that was chosen.
        why: Why none was.
        advice: What to change in training.
        report: Name → what base, tuned, taia and the choice are on the examples to report on.
        scores: The tasks' own scores there, as :class:`~taia.evaluation.scores.summary.Summary`
            has them as JSON; None where no task was given or there was no time.
        optimism: How much better the choice looked in the search.
        random: How many random selections were compared, and what the best of them is.
        evaluations: How many candidates were measured on how many sets of examples.
        places: Where what was learnt and what was harmed lies.
        notes: What a careful reader would want to know.
        written: The model or adapter that was written.
    """

    output: Path
    facts: Mapping[str, Any]
    worse: bool | None
    findings: Sequence[Finding]
    learnt: Contrast
    base_loss: float
    rows: Sequence[CandidateRow]
    decision: Decision | None = None
    choice: Candidate | None = None
    why: Sequence[str] = ()
    advice: Sequence[Advice] = ()
    report: Mapping[str, Cost] = field(default_factory=dict)
    scores: Mapping[str, Any] | None = None
    optimism: Optimism | None = None
    random: tuple[int, Cost | None] = (0, None)
    evaluations: int = 0
    places: Sequence[Attributed] = ()
    notes: Sequence[str] = ()
    written: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON values; shares are fractions, losses nats a token."""
        decision = None if self.decision is None else asdict(self.decision)
        plain = {
            "schema": SCHEMA,
            "worse": self.worse,
            "candidates": [
                {
                    **row.candidate.to_json(),
                    "about": row.candidate.about,
                    "numbers": row.candidate.numbers,
                    "stage": row.stage,
                    **asdict(row.cost),
                }
                for row in self.rows
            ],
            "choice": None if self.choice is None else self.choice.to_json(),
            "why": " ".join(self.why) or _chosen(self.choice),
            "advice": [asdict(one) for one in self.advice],
            "findings": [{**asdict(one), "verdict": one.verdict} for one in self.findings],
            "learnt": asdict(self.learnt),
            "base_loss": self.base_loss,
            "decision": decision,
            "report": {name: asdict(cost) for name, cost in self.report.items()},
            "scores": self.scores,
            "optimism": None if self.optimism is None else asdict(self.optimism),
            "random": {
                "selections": self.random[0],
                "best": None if self.random[1] is None else asdict(self.random[1]),
            },
            "evaluations": self.evaluations,
            "places": [asdict(one) for one in self.places],
            "notes": list(self.notes),
            "written": None if self.written is None else str(self.written),
            "facts": dict(self.facts),
        }
        return {key: _plain(value) for key, value in plain.items()}


def read_mended(folder: Path) -> dict[str, Any]:
    """What ``mend.json`` of a folder holds.

    Raises:
        DataError: If there is none, or it is of another version of taia.
    """
    path = folder / MEND_FILE
    if not path.is_file():
        raise DataError(f"{folder} has no result yet.", "Give the command of `taia mend` again.")
    found = read_json(path)
    if found.get("schema") != SCHEMA:
        raise DataError(
            f"{path} is not of this version of taia.", "Give the command of `taia mend` again."
        )
    return found


def _chosen(choice: Candidate | None) -> str:
    if choice is None:
        return ""
    return f"{choice.name} keeps what was learnt and changes the least of all that was tried."


def _share(start: float, found: Contrast, whole: float) -> ShareEstimate:
    """A start plus a difference as a share of a whole."""
    if whole <= 0:
        return ShareEstimate(math.nan)
    low, high = found.interval or (None, None)
    return ShareEstimate(
        start + found.value / whole,
        None if low is None else start + low / whole,
        None if high is None else start + high / whole,
    )


def _plain(value: Any) -> Any:  # noqa: ANN401 - a JSON value
    """JSON has no word for what is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
