"""Writes the agreement tables of docs/tasks.md: each reading of an answer against hand labels.

``python scripts/make_agreement_tables.py`` rewrites them; ``--check`` only says whether they are
current; ``--judge URL --judge-model ID`` prints, and does not write, what a judge agrees to.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from taia.errors import TaiaError
from taia.evaluation.judge import Judge, ask
from taia.evaluation.scores.statistics import Estimate, accuracy
from taia.evaluation.tasks.functions import answer
from taia.evaluation.tasks.refusals import Reading, is_refusal, outcome
from taia.evaluation.tasks.registry import find
from taia.evaluation.tasks.task import Item

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "tasks.md"
LABELLED: Final = ROOT / "tests" / "evaluation" / "tasks" / "labelled"
BEGIN: Final = "<!-- agreement tables: written by scripts/make_agreement_tables.py -->\n"
END: Final = "<!-- end of the agreement tables -->\n"

#: A line of a labelled set.
Row = Mapping[str, Any]
#: What a reading, or the label, says of a line.
Read = Callable[[Row], str]

_LABELS: Final = {"refused": "refuse", "answered": "answer", "gibberish": "gibberish"}
#: The task by whose rules the authors' program would read an answer of the kind.
_TASKS: Final = {
    "math": "taia_math", "number": "taia_svamp", "text": "taia_bbh", "option": "taia_csqa",
    "option zh": "taia_logiqa_zh",
}  # fmt: skip
_GROUPS: Final = (("English", "en"), ("Chinese", "zh"), ("both", ""))


def rows(name: str) -> list[Row]:
    """The lines of a labelled set: ``answers`` or ``refusals``."""
    lines = (LABELLED / f"{name}.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def verdict(row: Row, protocol: str = "taia") -> str:
    """What a protocol says of a line of ``answers``: ``right`` or ``not right``."""
    kind = row["kind"]
    task = _TASKS.get(f"{kind} {row['language']}") or _TASKS[kind]
    item = Item(
        row["id"], task, row["question"], kind, row["gold"], tuple(row["options"]),
        solution=f"\\boxed{{{row['gold']}}}" if kind == "math" else "",
    )  # fmt: skip
    told = {"protocol": protocol, "is_finished": find(task).is_finished}
    found = answer({**asdict(item), **told}, [row["response"]])
    return "right" if found["acc"] else "not right"


def kappa(given: Sequence[str], labels: Sequence[str]) -> Estimate:
    """Cohen's κ with its 95% interval.

    The interval is Clopper and Pearson's of the agreement, with that by chance held fixed: it
    does not shrink to nothing where all agree, as the asymptotic one does.

    Args:
        given: What a reading says of each line.
        labels: Their labels.
    """
    agreed = accuracy([one == other for one, other in zip(given, labels, strict=True)])
    total = len(labels)
    by_chance = sum(given.count(x) * labels.count(x) for x in set(labels)) / total**2
    if by_chance == 1:
        return Estimate(1.0, 0.0, 1.0)
    assert agreed.low is not None  # some were labelled
    assert agreed.high is not None
    value, low, high = (
        (share - by_chance) / (1 - by_chance) for share in (agreed.value, agreed.low, agreed.high)
    )
    return Estimate(value, low, high)


def refused(row: Row, reading: Reading = "taia") -> str:
    """Whether a line of ``refusals`` is a refusal, by a reading."""
    return "refuse" if is_refusal(row["response"], reading) else "other"


def _outcome(row: Row) -> str:
    return _LABELS[outcome(row["response"])]


def _outcome_by_loss(row: Row) -> str:
    return _LABELS[outcome(row["response"], row.get("loss"))]


def right(row: Row) -> str:
    """The label of a line of ``answers``: ``right`` or ``not right``."""
    return "right" if row["label"] == "right" else "not right"


def refuses(row: Row) -> str:
    """Whether a line of ``refusals`` is labelled as one."""
    return "refuse" if row["label"] == "refuse" else "other"


def _label(row: Row) -> str:
    return str(row["label"])


def _line(name: str, found: Sequence[Row], read: Read, label: Read) -> str:
    cells = []
    for _, language in _GROUPS:
        chosen = [row for row in found if language in ("", row["language"])]
        given, labels = [read(row) for row in chosen], [label(row) for row in chosen]
        agreed = sum(one == other for one, other in zip(given, labels, strict=True))
        k = kappa(given, labels)
        cells.append(f"{agreed} of {len(chosen)}; {k.value:.2f} [{k.low:.2f}, {k.high:.2f}]")
    return f"| {name} | {' | '.join(cells)} |\n"


def _table(title: str, lines: Iterator[str]) -> str:
    head = f"| {title} | {' | '.join(name for name, _ in _GROUPS)} |\n| --- | --- | --- | --- |\n"
    return head + "".join(lines)


def _readings(found: Sequence[Row], readings: Sequence[tuple[str, Read, Read]]) -> Iterator[str]:
    parts = {
        "seen while tuning": [row for row in found if row["part"] == "tuned"],
        "held out": [row for row in found if row["part"] == "held"],
        "all by models": [row for row in found if row["source"] != "written"],
    }
    for part, chosen in parts.items():
        for name, read, label in readings:
            yield _line(f"{name}, {part}", chosen, read, label)


def tables() -> str:
    """Both tables: agreement, κ and its interval, by reading, part and language."""
    answers = _readings(
        rows("answers"),
        (
            ("`taia`", verdict, right),
            ("`authors`", lambda row: verdict(row, "authors"), right),
        ),
    )
    refusals = _readings(
        rows("refusals"),
        (
            ("taia's reading", refused, refuses),
            ("29 phrases, at the start", lambda row: refused(row, "start"), refuses),
            ("29 phrases, anywhere", lambda row: refused(row, "anywhere"), refuses),
            ("taia's three outcomes", _outcome, _label),
            ("… with a base model's loss", _outcome_by_loss, _label),
        ),
    )
    return (
        f"{_table('answers, by protocol: right or not', answers)}\n"
        f"{_table('refusals: refused or not', refusals)}"
    )


def page() -> str:
    """docs/tasks.md as it should be."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{tables()}\n{END}{rest.split(END)[1]}"


def judged(judge: Judge) -> str:
    """The table of a judge, who finds that a prompt was answered, or not.

    Raises:
        RunError: If the judge cannot be asked.
    """
    found = rows("refusals")
    verdicts = ask(judge, [(row["prompt"], row["response"]) for row in found]).verdicts
    said = {row["id"]: verdict for row, verdict in zip(found, verdicts, strict=True)}
    have = [row for row in found if said[row["id"]] is not None]
    line = _line(
        f"{judge.model}, {len(found) - len(have)} without a verdict", have,
        lambda row: "answer" if said[row["id"]] else "other",
        lambda row: "answer" if row["label"] == "answer" else "other",
    )  # fmt: skip
    return _table("a judge: answered or not", iter([line]))


def main() -> int:
    """Writes, checks or prints the tables; 1 where they are not current."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--check", action="store_true", help="Write nothing.")
    arguments.add_argument("--judge", help="The endpoint of a judge, up to its version.")
    arguments.add_argument("--judge-model", default="", help="Its name there.")
    given = arguments.parse_args()
    if given.judge:
        try:
            print(judged(Judge.at(given.judge, given.judge_model)))
        except TaiaError as error:
            print(error, file=sys.stderr)
            return 1
        return 0
    text = page()
    if not given.check:
        PAGE.write_text(text, encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != text:
        print(
            "docs/tasks.md is not current: python scripts/make_agreement_tables.py",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
