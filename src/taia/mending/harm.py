"""What is tested to say whether a fine-tune is worse: the tasks' scores, and the loss of rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from taia.evaluation.scores.results import TaskResult
from taia.mending.bench import Bench
from taia.mending.budget import MOST
from taia.mending.candidates import BASE, TUNED
from taia.mending.examples import Example
from taia.mending.items import Item, Tokeniser, in_turn
from taia.mending.scoring import Scoring
from taia.mending.worse import Compared, Finding, judged
from taia.training.data.row import Row


def findings(
    items: Sequence[Item],
    scoring: Scoring,
    bench: Bench,
    tokeniser: Tokeniser,
    folder: Path,
    seconds: float,
) -> tuple[Finding, ...]:
    """Base against tuned on everything that was to be kept and can be tested.

    Args:
        items: What was to be kept; none that is reported on.
        scoring: Scores tasks.
        bench: Measures rows.
        tokeniser: Makes tokens.
        folder: Of the tasks' results.
        seconds: How long the tasks may take.
    """
    modes = {one.name: one.selection for one in (BASE, TUNED)}
    of: dict[str, dict[str, TaskResult]] = {}
    for result in scoring.run(folder, modes, items, seconds):
        of.setdefault(result.task, {})[result.mode] = result
    tasks = [
        Compared.of(both[BASE.name], both[TUNED.name])
        for both in of.values()
        if len(both) == len(modes)
    ]
    return judged([*filter(None, tasks), *_rows(items, bench, tokeniser)])


def _rows(items: Sequence[Item], bench: Bench, tokeniser: Tokeniser) -> list[Compared]:
    """The loss of kept rows, by file."""
    files: dict[str, list[Example]] = {}
    for item in in_turn([one for one in items if isinstance(one.what, Row)])[: 2 * MOST]:
        if (example := tokeniser.example(item)) is not None:
            files.setdefault(item.source, []).append(example)
    found = []
    for name, examples in files.items():
        base, tuned = (bench.loss(one, examples) for one in (BASE, TUNED))
        found.append(Compared(name, "nats a token", base.nats, tuned.nats, False, base.tokens))
    return found
