"""Numbers, marks and modes in words, the same in every output."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from taia.analysis.norms import Norm
from taia.evaluation.scores.statistics import Average, Contrast, Estimate
from taia.evaluation.scores.summary import Summary
from taia.text import counted, listed

#: What a mark means; behind it stand the first letters of the mode it is a comparison with.
LEGEND: Final = (
    "▲b, ▼b: really higher, really lower than base; ▲t, ▼t: than tuned. Where a task has ↓, ▼ is "
    "better. Real: p < 0.05 on the same items (McNemar's exact test; where items are not right or "
    "wrong, that of the interval), corrected by Holm over the tasks; of averages: p < 0.05, the "
    "95% interval excludes 0."
)
#: 1 for a number that is really higher, −1 for one that is really lower → its mark.
MARKS: Final = {1: "▲", -1: "▼"}
#: What such a number is, as 1 and −1 again: :func:`verdict`.
VERDICTS: Final = {1: "better", -1: "worse"}

_WITHOUT: Final = "(no interval)"
#: The column of the average.
AVERAGE: Final = "average"


def percent(estimate: Estimate) -> str:
    """``61.3``: an accuracy in percent."""
    return f"{100 * estimate.value:.1f}"


def interval(estimate: Estimate) -> str:
    """``56–67``: an accuracy's 95% interval in percent; or that there is none."""
    if estimate.interval is None:
        return "no interval"
    return "–".join(f"{100 * end:.0f}" for end in estimate.interval)


def points(value: float) -> str:
    """``+4.3`` or ``−4.3``: a difference in percentage points."""
    rounded = f"{100 * value:+.1f}"
    return "0.0" if float(rounded) == 0 else rounded.replace("-", "−")


def change(difference: Estimate) -> str:
    """``−4.3 [−8.1, −0.4]``: a difference with its 95% interval, in percentage points.

    ``−4.3 (no interval)`` where there is none.
    """
    if difference.interval is None:
        return f"{points(difference.value)} {_WITHOUT}"
    return f"{points(difference.value)} [{', '.join(map(points, difference.interval))}]"


def called(mode: str) -> str:
    """A mode as a sentence names it: ``TAIA``, ``tuned``, ``“all - mlp[20:]”``."""
    if mode in ("base", "tuned"):
        return mode
    return mode.upper() if mode in ("taia", "taif") else f"“{mode}”"


def capital(words: str) -> str:
    """Words as they begin a sentence."""
    return words[0].upper() + words[1:]


def pairs(modes: Sequence[str]) -> list[tuple[str, str]]:
    """The differences worth showing: every other mode minus base and minus tuned."""
    shown = [("tuned", "base")] if "tuned" in modes and "base" in modes else []
    for mode in modes:
        if mode not in ("base", "tuned"):
            shown += [(mode, other) for other in ("base", "tuned") if other in modes]
    return shown


def score(summary: Summary, mode: str, task: str) -> str:
    """``61.3``: in percent where the task's scores are shares; ``–`` where there is none."""
    if not summary.has(mode, task):
        return "–"
    estimate = summary.score(mode, task)
    return percent(estimate) if summary.about[task].is_share else f"{estimate.value:.4g}"


def error(summary: Summary, mode: str, task: str) -> str:
    """``±1.2``: a score's standard error, as :func:`score` counts; ``no ±`` of one item."""
    if not summary.has(mode, task):
        return ""
    return spread(summary.standard_error(mode, task), summary.about[task].is_share)


def spread(value: float, is_share: bool = True) -> str:
    """``±1.2``: a standard error; ``no ±`` where it is not known, see :func:`without_error`."""
    if math.isnan(value):
        return "no ±"
    return f"±{100 * value:.1f}" if is_share else f"±{value:.2g}"


def without_error(summary: Summary) -> str:
    """Why some numbers have no standard error; nothing where all have one."""
    without = {
        task: min(summary.score(m, task).items for m in summary.modes if summary.has(m, task))
        for task in summary.tasks
        if any(error(summary, mode, task) == "no ±" for mode in summary.modes)
    }
    single = [task for task, items in without.items() if items == 1]
    few = [task for task in without if task not in single]
    said = []
    if single:
        average = len(summary.averaged) > 1 and set(single) & set(summary.averaged)
        nor = f", nor has an {AVERAGE} with it" if average else ""
        said.append(f"No ±: one item has no standard error ({', '.join(single)}){nor}.")
    if few:
        said.append(f"No ±: too few items to draw from ({', '.join(few)}).")
    return " ".join(said)


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
    ends = ", ".join(map(signed, found.interval or ()))
    return f"{signed(found.value)} {f'[{ends}]' if ends else _WITHOUT}"


def signed(value: float) -> str:
    """``+0.12`` or ``−4``: a difference that is not in percent, to three digits; ``0``."""
    shown = f"{value:+.3g}"
    return "0" if float(shown) == 0 else shown.replace("-", "−")


def average_gap(summary: Summary, mode: str, other: str) -> str:
    """The same of averages."""
    found = summary.average_difference(mode, other)
    return "–" if found is None else change(found)


def marks(summary: Summary, mode: str, task: str) -> list[tuple[str, int]]:
    """``▲b``, ``▼t``: whether a mode is really higher or lower than base and than tuned in a task.

    Returns:
        Each mark, and 1 where that is better, −1 where it is worse.
    """
    found = {other: summary.difference(mode, other, task) for other in _others(summary, mode)}
    return _marks(found)


def average_marks(summary: Summary, mode: str) -> list[tuple[str, int]]:
    """The same of averages."""
    return _marks({o: summary.average_difference(mode, o) for o in _others(summary, mode)})


def way(difference: Contrast | None) -> int:
    """1 where a number is really higher than the other, −1 where it is really lower, else 0."""
    if difference is None or not difference.is_real:
        return 0
    return (difference.value > 0) - (difference.value < 0)


def marked(difference: Contrast | None, words: str) -> str:
    """``▼ −4.3 [−8.1, −0.4] worse``: a difference in words, and what a real one is."""
    if difference is None or not way(difference):
        return words
    return f"{MARKS[way(difference)]} {words} {VERDICTS[difference.verdict]}"


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
    percents = 100 * norm.ratio
    if math.isinf(percents):
        return "∞"
    return f"{percents:,.0f}" if percents >= 100 else f"{percents:.2g}"


def direction(summary: Summary, task: str) -> str:
    """``↓`` where lower is better."""
    return "" if summary.about[task].higher_is_better else "↓"


def role(summary: Summary, task: str) -> str:
    """What a task counts as: in the average, or why not."""
    about = summary.about[task]
    if about.is_safety:
        return "safety"
    if task in summary.averaged:
        return AVERAGE if len(summary.averaged) > 1 else "alone: no average of one task"
    if not about.counts:
        return "beside: its items are in another task"
    if not about.higher_is_better:
        return "beside: lower is better"
    if not about.is_mean:
        return "beside: of all items together"
    if not about.is_share:
        return "beside: not from 0 to 1"
    return "beside: not every mode has it"


def scope(summary: Summary) -> str:
    """``9 tasks: 7 in the average, 2 about safety``: how many there are, of each kind."""
    averaged, beside = len(summary.averaged), len(summary.others)
    kinds = {
        f"in the {AVERAGE}" if averaged > 1 else "of what a model can do": averaged,
        f"beside the {AVERAGE}" if averaged > 1 else f"in no {AVERAGE}": beside,
        "about safety": len(summary.safety),
    }
    there = [f"{number} {what}" for what, number in kinds.items() if number]
    whole = counted(len(summary.tasks), "task")
    if len(there) > 1:
        return f"{whole}: {', '.join(there)}"
    return f"{whole}, all {there[0].partition(' ')[2]}" if len(summary.tasks) > 1 else whole


def unit(summary: Summary) -> str:
    """``in percent, text_loss in bits_per_byte``: what scores are counted in."""
    others = [task for task in summary.tasks if not summary.about[task].is_share]
    apart = listed([f"{task} in {summary.about[task].metric}" for task in others]) if others else ""
    if len(others) == len(summary.tasks):
        return f"as the tasks count ({apart})"
    return f"in percent, {apart}" if others else "in percent"


def chance(summary: Summary, task: str) -> float | None:
    """The share of right answers that guessing gives; none where not every item has options."""
    about = summary.about[task]
    asked = set().union(*about.items.values())
    odds = [1 / about.options[item] for item in asked if item in about.options]
    return math.fsum(odds) / len(odds) if len(odds) == len(asked) else None


def turned(summary: Summary, mode: str, other: str, task: str) -> str:
    """``+12 −30``: items that the mode has right and the other wrong, and the reverse."""
    found = flipped(summary, mode, other, task)
    return "–" if found is None else f"+{found[0]:,} −{found[1]:,}"


def flipped(summary: Summary, mode: str, other: str, task: str) -> tuple[int, int] | None:
    """How many items only the mode and only the other has right; none where that means nothing."""
    found = summary.difference(mode, other, task)
    if found is None or found.flips is None:
        return None
    return found.flips.gained.count, found.flips.lost.count


def guessed(summary: Summary, mode: str, other: str, task: str) -> str:
    """``8.3``: of these, how many either way guessing alone makes turn; nothing if none."""
    found = summary.difference(mode, other, task)
    by_chance = None if found is None or found.flips is None else found.flips.gained.by_chance
    return "" if by_chance is None else f"{by_chance:.1f}"


def items(summary: Summary, task: str) -> int:
    """How many items a task has, of all modes together."""
    return len(set().union(*summary.about[task].items.values()))


def _others(summary: Summary, mode: str) -> list[str]:
    return [other for one, other in pairs(summary.modes) if one == mode]


def _marks(found: Mapping[str, Contrast | None]) -> list[tuple[str, int]]:
    return [
        (f"{MARKS[way(difference)]}{other[0]}", difference.verdict)
        for other, difference in found.items()
        if difference is not None and way(difference)
    ]
