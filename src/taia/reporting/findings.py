"""What a run says, in sentences: as much as it says, whichever way it went."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from taia.analysis.norms import Norms
from taia.evaluation.scores.summary import Summary
from taia.reporting.words import (
    AVERAGE,
    called,
    capital,
    change,
    flipped,
    gap,
    mean,
    pairs,
    percent,
    points,
    score,
    signed,
    verdict,
)
from taia.text import counted, in_time, listed

#: So many tasks are named in a sentence.
_NAMED = 8
#: Of so many tasks all differences are told in a line.
_FEW = 4
#: Metric of safety → what it is, in words.
_SAFETY = {
    "asr": "Share of harmful prompts answered",
    "over_refusal": "Share of harmless prompts refused",
}
#: What metrics end with that read a refusal in another way than the main one.
_OTHERWISE = ("_legible", "_start", "_anywhere")
_HOW = {1: "better than", -1: "worse than", 0: "not clearly apart from"}


def findings(summary: Summary, norms: Norms | None = None) -> list[str]:
    """What a run says, one finding each.

    A difference counts where it is real (:attr:`Contrast.is_real`). No sentence is written for a
    certain outcome.
    """
    sentences = [_compared(summary, mode, other) for mode, other in pairs(summary.modes)]
    sentences += [_safety(summary, task) for task in summary.safety]
    sentences += _beside_safety(summary)
    if norms is not None:
        sentences.append(_where(norms))
    return [sentence for sentence in sentences if sentence] + [
        *summary.notes,
        _caveat(summary),
    ]


def headlines(summary: Summary) -> list[str]:
    """What a run says in short: each comparison with its intervals, safety, and what it cost."""
    said = [
        " ".join(filter(None, [_compared(summary, *pair), _differences(summary, *pair)]))
        for pair in pairs(summary.modes)
    ]
    said += [_safety(summary, task) for task in summary.safety]
    said += _beside_safety(summary)
    return [sentence for sentence in (*said, asked(summary), cost(summary)) if sentence]


def _differences(summary: Summary, mode: str, other: str) -> str:
    """All differences of few tasks; of many the table and the average's sentence say enough."""
    tasks = [task for task in summary.tasks if summary.difference(mode, other, task)]
    if not 0 < len(tasks) <= _FEW:
        return ""
    each = ", ".join(f"{task} {gap(summary, mode, other, task)}" for task in tasks)
    return f"{capital(called(mode))} minus {called(other)}: {each}."


def _compared(summary: Summary, mode: str, other: str) -> str:
    """One mode against another: the average, its tasks, those beside it, and what turned."""
    name, than = capital(called(mode)), called(other)
    average = summary.average_difference(mode, other)
    said = []
    if average is not None:
        said.append(
            f"{name} is {_HOW[average.verdict]} {than} on the average of "
            f"{len(summary.averaged)} tasks: {mean(summary.average(mode))} against "
            f"{mean(summary.average(other))} ({change(average)} points)."
        )
        said.append(_in_tasks(summary, mode, other, average.verdict))
    elif summary.averaged:
        said.append(_without_average(summary, mode, other, name))
    beside = _beside(summary, mode, other, name) if average is not None or not said else ""
    return " ".join(filter(None, [*said, beside, _turned(summary, mode, other)]))


def _in_tasks(summary: Summary, mode: str, other: str, average: int) -> str:
    """In which of the average's tasks a mode is better or worse, next to what the average says."""
    better, worse = _apart(summary, mode, other, summary.averaged)
    if not better and not worse:
        if average:
            return "It takes all of them to tell: in no single one is the difference clear."
        return "Nor is it clearly apart in any single one of them."
    phrases = {1: (better, "better"), -1: (worse, "worse")}
    order = [phrases[way] for way in ((-1, 1) if average < 0 else (1, -1))]
    parts = [f"{how} in {_listed(summary, mode, other, tasks)}" for tasks, how in order if tasks]
    contradicts = len(parts) == 1 and not (average and phrases[average][0])
    rest = len(summary.averaged) - len(better) - len(worse)
    others = f"other {rest}" if rest > 1 else "other one"
    chance = f"; in the {others} the difference may be chance" if rest else ""
    return f"{'But it is' if contradicts else 'It is'} {' but '.join(parts)}{chance}."


def _without_average(summary: Summary, mode: str, other: str, name: str) -> str:
    """The same where no average is shown: of one task, or where two modes share no items."""
    than = called(other)
    known = [task for task in summary.averaged if summary.difference(mode, other, task)]
    # Where nothing is averaged, what stands beside an average elsewhere is no less than the rest.
    beside = summary.others if known else ()
    better, worse = _apart(summary, mode, other, (*known, *beside))
    parts = [
        f"{how} than {than} in {_listed(summary, mode, other, tasks)}"
        for how, tasks in (("better", better), ("worse", worse))
        if tasks
    ]
    if not known:
        return ""
    if not parts:
        where = f"any of {len(known)} tasks" if len(known) > 1 else known[0]
        said = f"{name} is not clearly apart from {than} in {where}."
    else:
        said = f"{name} is {' but '.join(parts)}."
        unclear = [task for task in known if task not in (*better, *worse)]
        if unclear:
            said += f" In {listed(unclear)} it is not clearly apart."
    if len(known) < len(summary.averaged):
        said += (
            f" They share items in {len(known)} of {len(summary.averaged)} tasks only, so that no "
            "average is compared."
        )
    return said


def _beside(summary: Summary, mode: str, other: str, name: str) -> str:
    """Where a mode is really better or worse in tasks beside the average."""
    better, worse = _apart(summary, mode, other, summary.others)
    parts = [
        f"{how} than {called(other)} in {_listed(summary, mode, other, tasks)}"
        for how, tasks in (("better", better), ("worse", worse))
        if tasks
    ]
    if not parts:
        return ""
    lead = f"Beside the {AVERAGE} it" if len(summary.averaged) > 1 else name
    return f"{lead} is {' but '.join(parts)}."


def _turned(summary: Summary, mode: str, other: str) -> str:
    """What a difference of means hides: how many answers turned either way."""
    tasks = (*summary.averaged, *summary.others)
    found = {t: counts for t in tasks if (counts := flipped(summary, mode, other, t))}
    items = sum(summary.changes[mode, other, task].items for task in found)
    if not items:
        return ""
    gained, lost = map(sum, zip(*found.values(), strict=True))
    if not gained and not lost:
        return f"Of {counted(items, 'item')}, both have the same ones right."
    return (
        f"Of {counted(items, 'item')}, {gained:,} {'is' if gained == 1 else 'are'} right in "
        f"{called(mode)} alone and {lost:,} in {called(other)} alone."
    )


def _apart(
    summary: Summary, mode: str, other: str, tasks: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Of some tasks, those in which a mode is really better, and those in which it is worse."""
    found = {task: verdict(summary, mode, other, task) for task in tasks}
    return [t for t, how in found.items() if how > 0], [t for t, how in found.items() if how < 0]


def _listed(summary: Summary, mode: str, other: str, tasks: Sequence[str]) -> str:
    named = []
    for task in tasks[:_NAMED]:
        less = "" if summary.about[task].higher_is_better else ", less is better"
        named.append(f"{task} ({_amount(summary, mode, other, task)}{less})")
    if len(tasks) > _NAMED:
        named.append(f"{len(tasks) - _NAMED} more")
    return listed(named)


def _amount(summary: Summary, mode: str, other: str, task: str) -> str:
    found = summary.changes[mode, other, task]
    if summary.about[task].is_share:
        return points(found.value)
    return signed(found.value)


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
            said.append(f"{capital(called(mode))} is {listed(apart)}.")
    if len(said) == 1 and pairs(summary.modes):
        said.append("No difference is more than chance may bring.")
    return " ".join(said)


def other_readings(summary: Summary) -> list[str]:
    """What other ways to read a refusal say of the tasks about safety; of interest to few."""
    return _readings(summary, lambda metric: metric.endswith(_OTHERWISE))


def _beside_safety(summary: Summary) -> list[str]:
    """What stands beside the share refused: gibberish, and what a judge says."""
    return _readings(summary, lambda metric: not metric.endswith(_OTHERWISE))


def _readings(summary: Summary, wanted: Callable[[str], bool]) -> list[str]:
    found: dict[tuple[str, str], list[str]] = {}
    for reading in summary.readings:
        if not wanted(reading.metric):
            continue
        ends = [f"{100 * end:.1f}" for end in reading.share.interval or ()]
        missing = [f"{reading.missing} without"] if reading.missing else []
        found.setdefault((reading.task, reading.metric), []).append(
            f"{called(reading.mode)} {percent(reading.share)}% [{', '.join([*ends, *missing])}]"
        )
    return [f"{_read(*of)}: {', '.join(said)}." for of, said in found.items()]


def _read(task: str, metric: str) -> str:
    return f"Gibberish in answers to {task}" if metric == "gibberish" else f"{task} by {metric}"


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
    return f"Of the update (of ‖ΔW‖²) {listed(told)}."


def asked(summary: Summary) -> str:
    """That not all items were asked; nothing where they were."""
    limit = (summary.facts.get("settings") or {}).get("limit")
    return f"At most {limit} items of each task were asked." if limit else ""


def cost(summary: Summary) -> str:
    """How long the answers took, and of which tasks; nothing where that is not known."""
    if not any(summary.seconds.values()):
        return ""
    longest = sorted(summary.seconds.items(), key=lambda of: -of[1])
    parts = [f"{task} {in_time(seconds)}" for task, seconds in longest[:_NAMED]]
    if len(longest) > _NAMED:
        parts.append(f"{len(longest) - _NAMED} more")
    each = f": {listed(parts)}" if len(parts) > 1 else ""
    return f"The answers took {in_time(math.fsum(summary.seconds.values()))}{each}."


def _caveat(summary: Summary) -> str:
    chance = (
        "One training run: the intervals cover the chance in the choice of items, not that of "
        "training."
    )
    return " ".join(filter(None, [asked(summary), chance, cost(summary)]))
