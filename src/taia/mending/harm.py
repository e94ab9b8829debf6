"""What is tested to say whether a fine-tune is worse: the tasks' scores, and the loss of rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from taia.evaluation.scores.results import TaskResult
from taia.mending.bench import Bench
from taia.mending.budget import MOST, Clock
from taia.mending.candidates import BASE, TUNED
from taia.mending.examples import Example
from taia.mending.items import MendItem, Tokeniser, in_turn
from taia.mending.scoring import TaskScoring
from taia.mending.worse import Compared, Finding, is_worse, judged
from taia.training.data.row import Row


def findings(
    items: Sequence[MendItem],
    scoring: TaskScoring,
    bench: Bench,
    tokeniser: Tokeniser,
    folder: Path,
    clock: Clock,
) -> tuple[Finding, ...]:
    """Base against tuned on everything that was to be kept and can be tested.

    Where there was time for some of the items alone and they show no harm, half of the time that is
    left is for more of them: else a hurried look would call harmless what it could not see.

    Args:
        items: What was to be kept; none that is reported on.
        scoring: Scores tasks.
        bench: Measures rows.
        tokeniser: Makes tokens.
        folder: Of the tasks' results.
        clock: The time.
    """
    rows = _rows(items, bench, tokeniser)
    tasks = _tasks(items, scoring, folder, clock.share("worse"), 1)
    if not scoring.is_short:
        return judged([*tasks, *rows])
    found = judged([*tasks, *rows], looks=2)
    if is_worse(found) is True:
        return found
    scoring.short.clear()
    return judged([*_tasks(items, scoring, folder, clock.left / 2, 2), *rows], looks=2)


def _tasks(
    items: Sequence[MendItem], scoring: TaskScoring, folder: Path, seconds: float, look: int
) -> list[Compared]:
    """The tasks' scores, as many items as there is time for."""
    modes = {one.name: one.selection for one in (BASE, TUNED)}
    of: dict[str, dict[str, TaskResult]] = {}
    for result in scoring.run(folder, modes, items, seconds, look):
        of.setdefault(result.task, {})[result.mode] = result
    found = (
        Compared.of(both[BASE.name], both[TUNED.name])
        for both in of.values()
        if len(both) == len(modes)
    )
    return [one for one in found if one is not None]


def _rows(items: Sequence[MendItem], bench: Bench, tokeniser: Tokeniser) -> list[Compared]:
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
