"""The tasks' own scores, by `taia eval`'s own way: the live model, some items of each task."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from taia.evaluation.harness.part import only
from taia.evaluation.harness.running import Running
from taia.evaluation.harness.subject import Live
from taia.evaluation.harness.tasks import LmTask, Tasks, load_tasks
from taia.evaluation.scores.results import RUN_FILE, read_results, read_run
from taia.evaluation.scores.summary import Summary
from taia.evaluation.settings import Settings, Watch
from taia.mending.items import MendItem, TaskItem
from taia.mending.journal import Journal, digest
from taia.text import listed

if TYPE_CHECKING:
    from taia.evaluation.scores.results import TaskResult

#: Fewer items of a task say nothing: it is left out where there is no time for so many.
FEWEST: Final = 8
#: How far a task may change what is thought of the speed.
_STEP: Final = 4.0
#: Of a longest answer, what answers may be taken to need: some models never end one.
_WRITTEN: Final = 1.0
#: Characters of a token, roughly.
_LETTERS: Final = 4.0


@dataclass
class Speed:
    """How fast the model is here.

    Attributes:
        read: Tokens a second, of prompts and texts; a guess until it is measured.
        written: Tokens a second, of answers that are written together; likewise.
    """

    read: float = 300.0
    written: float = 100.0


@dataclass
class TaskScoring:
    """Evaluations of some items, each task's results kept as soon as they are known.

    Attributes:
        subject: What is evaluated.
        names: The tasks, groups or tags that were given.
        folders: With task files of the user's.
        settings: What else results depend on.
        speed: How fast the model is.
        journal: Which items were chosen, so that the same ones are asked again.
        watch: Told how far the work is.
        command: What was typed, for the records.
        short: Tasks of which fewer items were asked than there are, and how many of how many.
    """

    subject: Live
    names: Sequence[str]
    folders: Sequence[Path]
    settings: Settings
    speed: Speed
    journal: Journal
    watch: Watch
    command: str
    short: dict[str, tuple[int, int]] = field(default_factory=dict)

    def load(self) -> Tasks:
        """The tasks with all their items."""
        return load_tasks(self.names, self.folders, {"protocol": self.settings.protocol})

    def run(
        self,
        folder: Path,
        modes: Mapping[str, str],
        items: Sequence[MendItem],
        seconds: float,
        look: int = 1,
    ) -> list[TaskResult]:
        """Evaluate modes on as many of some items as there is time for.

        Args:
            folder: The run's folder.
            modes: Name → selection, of modes that the model knows.
            items: Those that may be asked, the first ones first.
            seconds: How long it may take.
            look: The how-manieth look at these items it is, on more of them each time.

        Returns:
            All results that the folder has of these modes.
        """
        of: dict[str, list[int]] = {}
        for item in items:
            if isinstance(item.what, TaskItem):
                of.setdefault(item.what.task, []).append(item.what.place)
        tasks, end = self.load(), time.monotonic() + seconds
        left = dict(of)
        while left:
            # The quickest first: what they leave of their time is for those after them.
            costs = {name: len(modes) * self._cost(tasks.tasks[name], of[name]) for name in left}
            name = min(costs, key=costs.__getitem__)
            count = _affordable(costs, max(0.0, end - time.monotonic()))
            places = self._places(f"{folder.name} {look}", name, left.pop(name), count)
            self.short[name] = len(places), len(of[name])
            if places:
                start = time.monotonic()
                self._task(only(tasks, {name: places}), folder, modes)
                took = time.monotonic() - start
                self._learn(tasks.tasks[name], took / (len(places) * costs[name]))
        if not (folder / RUN_FILE).is_file():
            return []
        return [one for one in read_results(folder) if one.mode in modes]

    @property
    def is_short(self) -> bool:
        """Whether there was not time for all items, since it was last told."""
        return any(count < of for count, of in self.short.values())

    def notes(self, why: str) -> list[str]:
        """Of which tasks there was time for some items alone, since it was last told.

        Args:
            why: What the items were asked for, as a sentence begins.
        """
        short = {name: one for name, one in self.short.items() if one[0] < one[1]}
        self.short.clear()
        some = [f"{count} of {of} items of {name}" for name, (count, of) in short.items() if count]
        none = [name for name, (count, _) in short.items() if not count]
        told = [*some, *([f"none of {listed(none)}"] if none else [])]
        return [f"{why} there was time for {listed(told)}."] if told else []

    def summary(self, folder: Path) -> Summary | None:
        """What a run says; None where nothing was evaluated."""
        if not (folder / RUN_FILE).is_file():
            return None
        return Summary.of(read_results(folder), read_run(folder))

    def _task(self, tasks: Tasks, folder: Path, modes: Mapping[str, str]) -> None:
        running = Running(self.subject, tasks, modes, self.settings, False, None, self.watch)
        running.evaluate(folder, overwrite=True, require=(), command=self.command)

    def _learn(self, task: LmTask, slower: float) -> None:
        """Take the model for as much slower, or faster, as a task's items were."""
        slower = min(_STEP, max(1 / _STEP, slower))
        if task.OUTPUT_TYPE == "generate_until":
            self.speed.written /= slower
        else:
            self.speed.read /= slower

    def _places(self, part: str, name: str, places: Sequence[int], count: int) -> list[int]:
        """The items that are asked: as many as before, or now as there is time for."""
        key = digest("places", part, name, list(places))
        known: list[int] = self.journal.get(key) or []
        if not known and count >= min(FEWEST, len(places)):
            known = list(places[:count])
            self.journal.put(key, known)
        return known

    def _cost(self, task: LmTask, places: Sequence[int]) -> float:
        """Seconds that one item takes in one mode, roughly."""
        docs = [task.eval_docs[place] for place in places[:20]]
        letters = sum(_letters(task, doc) for doc in docs) / max(1, len(docs))
        read = (letters / _LETTERS + 20) / self.speed.read
        if task.OUTPUT_TYPE != "generate_until":
            return read
        longest = int((task.get_config("generation_kwargs") or {}).get("max_gen_toks", 256))
        return read + _WRITTEN * longest / self.speed.written


def _affordable(costs: Mapping[str, float], seconds: float) -> int:
    """How many items of the cheapest task there is time for.

    All tasks get the same time, but for those of which that is too few items: these get none.
    """
    order = sorted(costs.values())
    while len(order) > 1 and seconds / len(order) < FEWEST * order[-1]:
        order.pop()
    return int(seconds / len(order) / order[0])


def _letters(task: LmTask, doc: object) -> int:
    """Characters that are read for an item."""
    asked = len(str(task.doc_to_text(doc)))
    if task.OUTPUT_TYPE == "multiple_choice":
        return asked + sum(len(str(option)) + 8 for option in task.doc_to_choice(doc))
    return asked + len(str(task.doc_to_target(doc)))
