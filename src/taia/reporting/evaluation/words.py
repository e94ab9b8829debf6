"""Numbers and marks of a run, the same in every output."""

from __future__ import annotations

import math
from typing import Final

from taia.analysis.norms import Norm
from taia.evaluation.scores.statistics import Average, Contrast
from taia.evaluation.scores.summary import Summary
from taia.reporting.words import change, pairs, percent

#: What a mark means; behind it stand the first letters of the mode it is a comparison with.
LEGEND: Final = (
    "▲b ▼b: really better, worse than base; ▲t ▼t: than tuned. Real: p < 0.05 on the same items "
    "(McNemar's exact test; where items are not right or wrong, that of the interval), corrected "
    "by Holm over the tasks; of averages: p < 0.05, the 95% interval excludes 0."
)
#: Verdict → its mark.
MARKS: Final = {1: "▲", -1: "▼"}

#: The column of the average.
AVERAGE: Final = "average"


def score(summary: Summary, mode: str, task: str) -> str:
    """``61.3``: in percent where the task's scores are shares; ``–`` where there is none."""
    if not summary.has(mode, task):
        return "–"
    estimate = summary.score(mode, task)
    return percent(estimate) if summary.about[task].is_share else f"{estimate.value:.4g}"


def error(summary: Summary, mode: str, task: str) -> str:
    """``±1.2``: a score's standard error, as :func:`score` counts."""
    if not summary.has(mode, task):
        return ""
    return spread(summary.standard_error(mode, task), summary.about[task].is_share)


def spread(value: float, is_share: bool = True) -> str:
    """``±1.2``: a standard error; nothing where it is not known."""
    if math.isnan(value):
        return ""
    return f"±{100 * value:.1f}" if is_share else f"±{value:.2g}"


def mean(average: Average | None) -> str:
    """An average in percent."""
    return "–" if average is None else percent(average)


def gap(summary: Summary, mode: str, other: str, task: str) -> str:
    """``−4.3 [−8.1, −0.4]``: a difference with its 95% interval; ``–`` where there is none."""
    found = summary.difference(mode, other, task)
    if found is None:
        return "–"
    if summary.about[task].is_share:
        return change(found)
    said = f"{found.value:+.3g}"
    if found.interval is not None:
        said += f" [{', '.join(f'{end:+.3g}' for end in found.interval)}]"
    return said.replace("-", "−")


def average_gap(summary: Summary, mode: str, other: str) -> str:
    """The same of averages."""
    found = summary.average_difference(mode, other)
    return "–" if found is None else change(found)


def marks(summary: Summary, mode: str, task: str) -> str:
    """``▲b▼t``: whether a mode is really better or worse than base and than tuned in a task."""
    return _marks({other: verdict(summary, mode, other, task) for other in _others(summary, mode)})


def average_marks(summary: Summary, mode: str) -> str:
    """The same of averages."""
    others = _others(summary, mode)
    return _marks({other: sign(summary.average_difference(mode, other)) for other in others})


def sign(difference: Contrast | None) -> int:
    """1 or −1 where an average is really better or worse than another, else 0."""
    return 0 if difference is None else difference.verdict


def verdict(summary: Summary, mode: str, other: str, task: str) -> int:
    """1 where a mode is really better than another in a task, −1 where it is really worse."""
    found = summary.difference(mode, other, task)
    return 0 if found is None else found.verdict


def size(norm: float) -> str:
    """``0.123``, ``45.6``, ``1,723``: a norm to three digits."""
    return f"{norm:,.0f}" if norm >= 100 else f"{norm:.3g}"


def ratio(norm: Norm) -> str:
    """``1.2``: ‖ΔW‖ in percent of ‖W‖; ``∞`` where the weights were all zero."""
    return "∞" if math.isinf(norm.ratio) else f"{100 * norm.ratio:.2g}"


def direction(summary: Summary, task: str) -> str:
    """``↓`` where lower is better."""
    return "" if summary.about[task].higher_is_better else "↓"


def items(summary: Summary, task: str) -> int:
    """How many items a task has, of all modes together."""
    return len(set().union(*summary.about[task].items.values()))


def _others(summary: Summary, mode: str) -> list[str]:
    return [other for one, other in pairs(summary.modes) if one == mode]


def _marks(verdicts: dict[str, int]) -> str:
    return "".join(f"{MARKS[value]}{other[0]}" for other, value in verdicts.items() if value)
