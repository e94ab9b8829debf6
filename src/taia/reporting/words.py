"""Numbers and findings in words, the same in the terminal and in the report."""

from __future__ import annotations

from collections.abc import Sequence

from taia.evaluation.comparison import Comparison
from taia.evaluation.scores.statistics import Estimate


def heading(group: str) -> str:
    """A group of questions as it is called in a heading."""
    return {"knowledge": "all knowledge", "skill": "trained skill"}.get(group, group)


def percent(estimate: Estimate) -> str:
    """``61.3``: an accuracy in percent."""
    return f"{100 * estimate.value:.1f}"


def interval(estimate: Estimate) -> str:
    """``56–67``: an accuracy's 95% interval in percent; ``–`` where there is none."""
    if estimate.interval is None:
        return "–"
    return "–".join(f"{100 * end:.0f}" for end in estimate.interval)


def points(value: float) -> str:
    """``+4.3`` or ``−4.3``: a difference in percentage points."""
    rounded = f"{100 * value:+.1f}"
    return "0.0" if float(rounded) == 0 else rounded.replace("-", "−")


def change(difference: Estimate) -> str:
    """``−4.3 [−8.1, −0.4]``: a difference with its 95% interval, in percentage points.

    Without the brackets where there is no interval.
    """
    if difference.interval is None:
        return points(difference.value)
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


def findings(comparison: Comparison) -> list[str]:
    """What the numbers say, one sentence each, and no more than they say.

    A difference counts as clear when its 95% interval excludes zero. Every sentence follows from
    the comparison given; none is written for a certain outcome.
    """
    modes = comparison.modes
    if "base" not in modes or "tuned" not in modes:
        return []
    sentences = [_learnt(comparison), _cost(comparison)]
    others = [mode for mode in modes if mode not in ("base", "tuned")]
    sentences += [_kept(comparison, mode) for mode in others]
    sentences.append(
        "One training run, one seed. The intervals cover the chance in the choice of questions, "
        "not that of training, and each stands alone: of many, about one in twenty excludes zero "
        "by chance."
    )
    return [sentence for sentence in sentences if sentence]


def _learnt(comparison: Comparison) -> str:
    if not comparison.size("skill"):
        return ""
    gain = comparison.difference("tuned", "base", "skill")
    base = percent(comparison.accuracy("base", "skill"))
    tuned = percent(comparison.accuracy("tuned", "skill"))
    if gain.verdict > 0:
        return f"Tuning taught the trained skill: {base}% became {tuned}% ({change(gain)})."
    if gain.verdict < 0:
        return f"Tuning made the trained skill worse: {base}% became {tuned}% ({change(gain)})."
    return (
        f"Whether tuning taught the trained skill is not clear: {base}%, then {tuned}% "
        f"({change(gain)})."
    )


def _cost(comparison: Comparison) -> str:
    if not comparison.size("knowledge"):
        return ""
    loss = comparison.difference("tuned", "base", "knowledge")
    if loss.verdict < 0:
        return f"It cost knowledge: tuned minus base is {change(loss)} points."
    if loss.verdict > 0:
        return (
            f"It did not cost knowledge but added some: tuned minus base is {change(loss)} points."
        )
    return (
        f"Whether it cost knowledge is not clear: tuned minus base is {change(loss)} points, so "
        "there may be nothing to mend here."
    )


def _kept(comparison: Comparison, mode: str) -> str:
    name = called(mode)
    said = []
    if comparison.size("knowledge"):
        said.append(f"{name} {_knows(comparison, mode)}.")
    if comparison.size("skill"):
        said.append(f"{'It' if said else name} {_can(comparison, mode)}.")
    return " ".join(said)


def _knows(comparison: Comparison, mode: str) -> str:
    knows = comparison.difference(mode, "tuned", "knowledge")
    if knows.verdict < 0:
        return f"knows less than tuned: {change(knows)} points"
    if knows.verdict == 0:
        return f"is not clearly apart from tuned in knowledge: {change(knows)} points"
    text = f"knows more than tuned: {change(knows)} points"
    cost = comparison.difference("tuned", "base", "knowledge")
    if cost.verdict >= 0:
        return text
    back = "all" if knows.value >= -cost.value else f"{100 * knows.value:.1f}"
    return f"{text}, giving back {back} of the {-100 * cost.value:.1f} that tuning cost"


def _can(comparison: Comparison, mode: str) -> str:
    skill = comparison.difference(mode, "tuned", "skill")
    if skill.verdict > 0:
        return f"is better than tuned at the trained skill ({change(skill)})"
    if skill.verdict == 0:
        return f"is not clearly apart from tuned in the trained skill ({change(skill)})"
    gain = comparison.difference(mode, "base", "skill")
    if gain.verdict > 0:
        left = "though above base"
    else:
        left = "and below base" if gain.verdict < 0 else "and not clearly above base"
    return f"is worse than tuned at the trained skill ({change(skill)}), {left} ({change(gain)})"
