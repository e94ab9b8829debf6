"""What a run says, in sentences: as much as it says, whichever way it went."""

from __future__ import annotations

from collections.abc import Sequence

from taia.analysis.norms import Norms
from taia.evaluation.scores.summary import Summary
from taia.reporting.evaluation.words import average_gap, mean, score, sign, verdict
from taia.reporting.words import called, capital, pairs, percent, points

#: So many tasks are named in a sentence.
_NAMED = 8
#: Metric of safety → what it is, in words.
_SAFETY = {
    "asr": "Share of harmful prompts answered",
    "over_refusal": "Share of harmless prompts refused",
}
_HOW = {1: "better than", -1: "worse than", 0: "not clearly apart from"}


def findings(summary: Summary, norms: Norms | None = None) -> list[str]:
    """What a run says, one finding each.

    A difference counts where it is real (:attr:`Contrast.is_real`). No sentence is written for a
    certain outcome.
    """
    sentences = [_compared(summary, mode, other) for mode, other in pairs(summary.modes)]
    sentences += [_safety(summary, task) for task in summary.safety]
    sentences += further_readings(summary)
    if norms is not None:
        sentences.append(_where(norms))
    return [sentence for sentence in sentences if sentence] + [*summary.notes, _caveat(summary)]


def _compared(summary: Summary, mode: str, other: str) -> str:
    name = capital(called(mode))
    said = []
    average = summary.average_difference(mode, other)
    if average is not None:
        said.append(
            f"{name} is {_HOW[sign(average)]} {called(other)} on the average of "
            f"{len(summary.averaged)} tasks: {mean(summary.average(mode))} against "
            f"{mean(summary.average(other))} ({average_gap(summary, mode, other)} points)."
        )
    tasks = [task for task in summary.tasks if task not in summary.safety]
    found = {task: summary.difference(mode, other, task) for task in tasks}
    known = {task: change for task, change in found.items() if change is not None}
    better = [task for task, change in known.items() if change.verdict > 0]
    worse = [task for task, change in known.items() if change.verdict < 0]
    if not known:
        return " ".join(said)
    subject = "It" if said else name
    rest = len(known) - len(better) - len(worse)
    versus = "" if said else f" than {called(other)}"
    parts = [
        f"{how}{versus} in {_listed(summary, mode, other, tasks)}"
        for how, tasks in (("better", better), ("worse", worse))
        if tasks
    ]
    if not parts:
        beside = "" if said else f" from {called(other)}"
        where = f"any of the {len(known)} tasks" if len(known) > 1 else next(iter(known))
        said.append(f"{subject} is not clearly apart{beside} in {where}.")
    elif rest:
        others = f"other {rest}" if rest > 1 else "other task"
        said.append(
            f"{subject} is {' and '.join(parts)}; in the {others} the difference may be chance."
        )
    else:
        said.append(f"{subject} is {' and '.join(parts)}.")
    return " ".join(said)


def _listed(summary: Summary, mode: str, other: str, tasks: Sequence[str]) -> str:
    named = [f"{task} ({_amount(summary, mode, other, task)})" for task in tasks[:_NAMED]]
    if len(tasks) > _NAMED:
        named.append(f"{len(tasks) - _NAMED} more")
    return _and(named)


def _amount(summary: Summary, mode: str, other: str, task: str) -> str:
    found = summary.changes[mode, other, task]
    if summary.about[task].is_share:
        return points(found.value)
    return f"{found.value:+.3g}".replace("-", "−")


def _safety(summary: Summary, task: str) -> str:
    shares = ", ".join(
        f"{called(mode)} {score(summary, mode, task)}%"
        for mode in summary.modes
        if summary.has(mode, task)
    )
    said = [f"{_SAFETY[summary.about[task].metric]} ({task}, less is better): {shares}."]
    for mode in summary.modes:
        apart = [
            f"{_HOW[verdict(summary, mode, other, task)]} {called(other)} "
            f"({_amount(summary, mode, other, task)})"
            for one, other in pairs(summary.modes)
            if one == mode and verdict(summary, mode, other, task)
        ]
        if apart:
            said.append(f"{capital(called(mode))} is {_and(apart)}.")
    if len(said) == 1 and pairs(summary.modes):
        said.append("No difference is more than chance may bring.")
    return " ".join(said)


def further_readings(summary: Summary) -> list[str]:
    """What other readings of a refusal, and a judge, say of the tasks about safety."""
    found: dict[tuple[str, str], list[str]] = {}
    for reading in summary.readings:
        ends = [f"{100 * end:.1f}" for end in reading.share.interval or ()]
        missing = [f"{reading.missing} without"] if reading.missing else []
        found.setdefault((reading.task, reading.metric), []).append(
            f"{called(reading.mode)} {percent(reading.share)}% [{', '.join([*ends, *missing])}]"
        )
    return [f"{task} by {metric}: {', '.join(said)}." for (task, metric), said in found.items()]


def _where(norms: Norms) -> str:
    names = {
        "attention": ("attention",),
        "the feed-forward block": ("mlp", "experts", "shared_experts", "router"),
    }
    shares = {name: norms.share(*components) for name, components in names.items()}
    if any(share != share for share in shares.values()):
        return "Base and tuned do not differ in any weight."
    shares["the rest"] = 1 - sum(shares.values())
    told = [f"{100 * share:.0f}% in {name}" for name, share in shares.items() if share > 0.0005]
    return f"Of the update (of ‖ΔW‖²) {_and(told)}."


def _caveat(summary: Summary) -> str:
    limit = (summary.facts.get("settings") or {}).get("limit")
    asked = f"At most {limit} items of each task were asked. " if limit else ""
    return (
        f"{asked}One training run: the intervals cover the chance in the choice of items, not that "
        "of training."
    )


def _and(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
