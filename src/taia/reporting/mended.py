"""What a search for a mend found, in words for who has no statistics: four answers."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from taia.evaluation.tasks.registry import own_tasks
from taia.mending.journal import KEEP_FILE
from taia.text import counted, in_time, listed

#: What ``mend.json`` holds.
MendJson: TypeAlias = Mapping[str, Any]

#: Characters of a selection that is shown as it is.
_LONG: Final = 200


@dataclass(frozen=True)
class Reply:
    """One of the four.

    Attributes:
        question: What is asked.
        short: The answer in a few words.
        sentences: What it rests on.
    """

    question: str
    short: str
    sentences: Sequence[str]


def answers(found: MendJson) -> tuple[Reply, ...]:
    """All four, of which the last two may have nothing to say."""
    return _worse(found), _costs(found), _which(found), _training(found)


def command(found: MendJson) -> str:
    """What to type to write what should be kept; nothing where none was chosen."""
    choice = found["choice"]
    if choice is None:
        return ""
    facts = found["facts"]
    line = shlex.join(["taia", "compose", facts["base"], facts["tuned"]])
    if is_long(choice["selection"]) and found["written"]:
        file = Path(found["written"]).with_name(KEEP_FILE)
        line += f' --keep "$(cat {shlex.quote(str(file))})"'
    else:
        line += f" --keep {shlex.quote(choice['selection'])}"
    line += f" --method {shlex.quote(choice['method'])}" if "method" in choice else ""
    return f"{line} --output OUTPUT"


def is_long(selection: str) -> bool:
    """Whether a selection is too long for a line that somebody reads."""
    return len(selection) > _LONG


def percent(share: float | None) -> str:
    """A share in percent; a dash where there is none."""
    if share is None:
        return "–"
    return f"{100 * share:.0f} %".replace("-", "−")


def nats(value: float) -> str:
    """A distance in nats."""
    return f"{value:.2f}".replace("-", "−")


def within(share: Mapping[str, Any]) -> str:
    """A share with its interval."""
    if share["low"] is None:
        return percent(share["value"])
    low, high = (f"{100 * share[end]:.0f}".replace("-", "−") for end in ("low", "high"))
    return f"{percent(share['value'])} ({low} to {high})"


def table(found: MendJson) -> list[dict[str, Any]]:
    """Base and tuned, what was chosen, what was compared, others; the best of each first."""
    choice = found["choice"]
    chosen = None if choice is None else choice["name"]

    def place(row: Mapping[str, Any]) -> tuple[int, bool, float]:
        first = {"base": 0, "tuned": 1, chosen: 2}.get(row["name"])
        rank = first if first is not None else 3 if row["stage"] == "select" else 4
        return rank, not row["within"], row["divergence"]

    rows = sorted(found["candidates"], key=place)
    told = found["report"]
    return [
        {**row, **(told.get(row["name"]) or {}), "reported": row["name"] in told} for row in rows
    ]


def _worse(found: MendJson) -> Reply:
    short = {
        True: "Yes: it lost something.",
        False: "No harm was found.",
        None: "That cannot be told from what was given.",
    }[found["worse"]]
    said = [_finding(one) for one in found["findings"]]
    tuned = next(row for row in found["candidates"] if row["name"] == "tuned")
    said.append(
        f"On general prompts it is {tuned['divergence']:.2f} nats a token away from the base model "
        "(0 is the same model; this is a distance, not yet a harm)."
    )
    gain = found["learnt"]["value"]
    before = found["base_loss"]
    said.append(
        f"{'What it was to learn' if gain > 0 else 'It learnt nothing that shows'}: the loss went "
        f"from {before:.2f} to {before - gain:.2f} nats a token."
    )
    if found["worse"] is False:
        said.append(_unseen(found["findings"]))
    return Reply("Is the fine-tune worse?", short, [one for one in said if one])


def _finding(one: Mapping[str, Any]) -> str:
    what = _shares(one["name"])
    word = {-1: "worse", 0: "no clear difference", 1: "better"}[one["verdict"]]
    if what is None and one["lost"] is None:
        label = _measures(one["name"]) or f"{one['name']}, {one['unit']}"
        return f"{_capital(label)}: {one['base']:.2f} before, {one['tuned']:.2f} after: {word}."
    if what is None:
        what = f"of {one['name']} counted by {one['unit']}"
    turned = ""
    if one["lost"] is not None and (one["lost"] or one["gained"]):
        turned = f" ({one['lost']} of {one['items']} turned for the worse, "
        turned += f"{one['gained']} for the better)"
    before, after = percent(one["base"]), percent(one["tuned"])
    return f"{_capital(what)}: {before} before, {after} after{turned}: {word}."


def _unseen(findings: Sequence[Mapping[str, Any]]) -> str:
    """What harm may have gone unseen."""
    shares = [
        one for one in findings if one["lost"] is not None and one["change"]["low"] is not None
    ]
    if not shares:
        return ""
    one = max(shares, key=lambda row: row["items"])
    change = one["change"]
    worst = -change["low"] if one["higher_is_better"] else change["high"]
    if worst <= 0:
        return ""
    return (
        f"Harm of up to {100 * worst:.0f} points in {_shares(one['name']) or one['name']} could "
        f"not be seen with {one['items']} items."
    )


def _costs(found: MendJson) -> Reply:
    question = "What would each mend cost?"
    rows = [row for row in found["candidates"] if row["name"] not in ("base", "tuned")]
    if not rows:
        return Reply(question, "Nothing was tried, as there is nothing to mend.", ())
    good = [row for row in rows if row["within"]]
    short = (
        f"{len(rows)} ways to keep a part of the update were measured; {len(good)} of them keep "
        "nearly all that was learnt."
    )
    return Reply(question, short, ())


def _which(found: MendJson) -> Reply:
    question, choice = "Which one should be kept?", found["choice"]
    if choice is None:
        short = (
            "Keep the fine-tuned model as it is." if found["worse"] is False else "None of them."
        )
        return Reply(question, short, [found["why"]] if found["why"] else [])
    about = next(r["about"] for r in found["candidates"] if r["name"] == choice["name"])
    short = f"{choice['name']}: {about}."
    cost = found["report"].get(choice["name"])
    said = []
    if cost:
        said.append(
            f"On rows and prompts that were kept apart it has {within(cost['kept'])} of what was "
            f"learnt, and takes back {within(cost['restored'])} of the change in general answers."
        )
    said += _scores(found, choice["name"])
    said.append(_honest(found))
    return Reply(question, short, said)


def _scores(found: MendJson, name: str) -> list[str]:
    """The tasks' own scores, base, tuned and the choice, on what was kept apart."""
    if not found["scores"]:
        return []
    modes = {one["mode"]: one for one in found["scores"]["modes"]}
    said = []
    for task in found["scores"]["tasks"]:
        asked = [
            modes[m]["scores"].get(task["task"]) for m in ("base", "tuned", name) if m in modes
        ]
        if len(asked) < 3 or not all(asked):
            continue
        base, tuned, chosen = asked
        what = _shares(task["task"])
        if what is None and (task["metric"] == "acc" or task["averaged"]):
            what = f"of {task['task']} counted by {task['metric']}"
        told = percent if what else lambda value: f"{value:.2f}"
        label = what or _measures(task["task"]) or f"{task['task']}, {task['metric']}"
        said.append(
            f"{_capital(label)}: base {told(base['value'])}, fine-tune {told(tuned['value'])}, "
            f"this choice {told(chosen['value'])} ({chosen['items']} items kept apart)."
        )
    return said


def _honest(found: MendJson) -> str:
    said = []
    if optimism := found["optimism"]:
        kept, restored = (_looked(optimism[side]) for side in ("kept", "restored"))
        said.append(
            f"While it was searched for it looked {kept} in what it keeps and {restored} in what "
            "it takes back"
        )
    random = found["random"]
    if random["selections"]:
        best = random["best"]
        told = f"takes back {percent(best['restored']['value'])}" if best else "keeps too little"
        said.append(f"the best of {random['selections']} random selections {told}")
    said.append(f"{found['evaluations']} measurements were made to find it")
    return f"{_capital('; '.join(said))}."


def _looked(more: float | None) -> str:
    """How much better something looked, in points."""
    points = 0 if more is None else round(100 * more)
    if points == 0:
        return "the same"
    return f"{counted(abs(points), 'point')} {'better' if points > 0 else 'worse'}"


def _training(found: MendJson) -> Reply:
    question = "What to change in training?"
    advice = [f"{one['change']} {one['reason']}" for one in found["advice"]]
    if found["worse"] is False:
        return Reply(question, "Nothing that was measured says so.", ())
    if not advice:
        return Reply(question, "Nothing that was measured says so.", ())
    return Reply(question, "If you train again:", advice)


def lead(found: MendJson) -> str:
    """What was searched, in one sentence."""
    facts = found["facts"]
    learn = [one if isinstance(one, str) else one[0] for one in facts["learn"]]
    keep = [one if isinstance(one, str) else one[0] for one in facts["keep"]]
    kept = "what a general model should still do" if keep == ["mend"] else listed(keep)
    return (
        f"{facts['tuned']} was fine-tuned from {facts['base']}. To be kept of it: {listed(learn)}. "
        f"Not to get worse: {kept}. Measured in {in_time(facts['seconds'])}."
    )


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _shares(task: str) -> str | None:
    """What a task of taia's own is the share of, in plain words."""
    own = own_tasks().get(task)
    return own.shares or None if own else None


def _measures(task: str) -> str | None:
    """What another one of taia's own is, in plain words."""
    own = own_tasks().get(task)
    return own.measures or None if own else None
