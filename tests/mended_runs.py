"""Results of a search made by hand: no model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from taia.mending.candidates import BASE, TAIA, TUNED, Candidate
from taia.mending.choice import BothEnds, Decision, Measures, Optimism
from taia.mending.measures import Nats
from taia.mending.paired import difference
from taia.mending.result import CandidateRow, Cost, Mended
from taia.mending.why import Advice, Attributed
from taia.mending.worse import Compared, judged

LEARNED = Candidate("learned, 4 numbers", "0.6*attention + 0.3*mlp", "4 shares, learned", 4)
HALF = Candidate("0.5 of all", "0.5*all", "50 % of the whole update", 1)
MAGNITUDE = Candidate("Magnitude keep 0.2", "all", "the largest fifth", 1, "magnitude:keep=0.2")
FACTS = {
    "base": "org/base",
    "tuned": "runs/tuned",
    "learn": [["mine.jsonl", "ab" * 32]],
    "keep": ["mend"],
    "budget": 600.0,
    "seed": 0,
    "command": "taia mend org/base runs/tuned --learn mine.jsonl --output out",
    "versions": {"taia": "0.1.0", "torch": "2.13.0"},
    "created": "2026-01-01T00:00:00+00:00",
    "seconds": 512.3,
}


def one(loss: float, divergence: float, size: int = 20) -> Measures:
    rng = np.random.default_rng(int(1000 * loss))
    sides = (loss + rng.normal(0, 0.05, size), divergence + rng.normal(0, 0.05, size))
    return Measures(*(Nats(tuple(10 * side), (10,) * size) for side in sides))


ENDS = BothEnds(one(5.0, 0.0), one(1.0, 1.3))


def tests() -> list[Compared]:
    right = [1.0] * 70 + [0.0] * 30
    wrong = [0.0] * 25 + [1.0] * 50 + [0.0] * 25
    same = [1.0] * 10 + [0.0] * 30
    texts = [1.0 + number / 50 for number in range(60)]
    return [
        Compared("questions", "acc", right, wrong, True, options=[4] * 100),
        Compared("lookalikes", "over_refusal", same, same, False),
        Compared("text_loss", "bits_per_byte", texts, [t + 0.2 + t / 9 for t in texts], False),
    ]


def scores() -> dict[str, Any]:
    def row(value: float) -> dict[str, Any]:
        return {"value": value, "low": None, "high": None, "standard_error": 0.01, "items": 120}

    table = {"base": (0.71, 1.1), "tuned": (0.53, 1.5), LEARNED.name: (0.76, 1.2)}
    return {
        "tasks": [
            {"task": "questions", "metric": "acc", "averaged": True},
            {"task": "text_loss", "metric": "bits_per_byte", "averaged": False},
        ],
        "modes": [
            {"mode": mode, "scores": {"questions": row(right), "text_loss": row(bits)}}
            for mode, (right, bits) in table.items()
        ],
    }


def mended(*, worse: bool | None = True, chosen: bool = True, **more: Any) -> Mended:
    """A search that found harm and chose a learned selection, or another one."""
    tried = {
        TAIA: one(2.4, 0.85),
        HALF: one(1.2, 0.55),
        MAGNITUDE: one(1.05, 0.9),
        LEARNED: one(1.04, 0.35),
    }
    searched = worse is not False
    ends = {BASE: ENDS.base, TUNED: ENDS.tuned}
    known = {**ends, **(tried if searched else {})}
    rows = [
        CandidateRow(
            candidate, "select" if candidate is LEARNED else "search", Cost.of(found, ENDS)
        )
        for candidate, found in known.items()
    ]
    choice = LEARNED if chosen and searched else None
    reported = [BASE, TUNED, TAIA, *([LEARNED] if choice else [])] if searched else []
    base, tuned = ENDS.base.loss, ENDS.tuned.loss
    findings = judged(tests()) if worse else judged(tests()[1:2]) if worse is False else ()
    given: dict[str, Any] = {
        "output": Path("out"),
        "facts": FACTS,
        "worse": worse,
        "findings": findings,
        "learnt": difference(base.nats, tuned.nats, base.tokens),
        "base_loss": base.mean,
        "rows": rows,
        "decision": Decision(choice and choice.name, "chosen" if choice else "none within"),
        "choice": choice,
        "why": () if choice else ("No candidate keeps 98% of what was learnt.",),
        "advice": (Advice("Leave down_proj frozen.", "It made 60% of the change."),),
        "report": {one.name: Cost.of(known[one], ENDS) for one in reported},
        "scores": scores() if choice else None,
        "optimism": Optimism(0.01, 0.04) if choice else None,
        "random": (12, Cost.of(one(1.07, 1.0), ENDS)) if searched else (0, None),
        "evaluations": 57,
        "places": (Attributed("q_proj", 0.4, 0.1), Attributed("down_proj", 0.1, 0.6)),
        "notes": ("There was time for 40 of 80 items of instructions.",),
        "written": Path("out/choice") if choice else None,
    }
    return Mended(**{**given, **more})
