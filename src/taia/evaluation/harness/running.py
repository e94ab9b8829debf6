"""One run: every task in every mode, each result kept as soon as it is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from taia.checkpoint.output.manifest import versions
from taia.errors import StoppedError
from taia.evaluation.harness import drive
from taia.evaluation.harness.known import is_own
from taia.evaluation.harness.metric import main_metric, scored_as
from taia.evaluation.harness.model import SOURCES, ModesLM
from taia.evaluation.harness.scores import judge_identity, judged
from taia.evaluation.harness.tasks import (
    LmTask,
    Tasks,
    left_out,
    task_identity,
)
from taia.evaluation.loracl import LORACL
from taia.evaluation.scores.gates import check_means, read_gate, score, turned
from taia.evaluation.scores.identity import digest
from taia.evaluation.scores.results import RUN_FILE, TaskResult, read_results, read_run
from taia.evaluation.scores.store import Store
from taia.evaluation.scores.summary import Summary
from taia.evaluation.settings import Settings, Watch
from taia.selection import Selection

if TYPE_CHECKING:
    from taia.evaluation.harness.subject import Subject
    from taia.evaluation.judge import Judge

#: What is written where other modes have a selection.
_PER_PROMPT: Final = "base or tuned, per prompt"
_LIBRARIES: Final = ("lm_eval", "transformers", "peft", "datasets")


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation gave.

    Attributes:
        output: The run's folder.
        summary: What it says, with the results of earlier calls.
        unmet: Of each condition that is not met, why.
    """

    output: Path
    summary: Summary
    unmet: tuple[str, ...]


class Running:
    """An evaluation that is all set.

    Args:
        subject: What is evaluated.
        tasks: On what.
        modes: Name → selection, in the order shown.
        settings: What else results depend on.
        log_samples: Whether results keep prompts and responses.
        judge: Who judges answers to harmful prompts, beside the phrases.
        watch: Told how far the work is.
    """

    def __init__(
        self,
        subject: Subject,
        tasks: Tasks,
        modes: Mapping[str, str],
        settings: Settings,
        log_samples: bool,
        judge: Judge | None,
        watch: Watch,
    ) -> None:
        self._subject = subject
        self._tasks = tasks
        self._modes = modes
        self._settings = settings
        self._log_samples = log_samples
        self._judge = judge
        self._watch = watch
        self._chat = (
            subject.has_chat_template if settings.chat_template is None else settings.chat_template
        )
        self._asking = drive.Asking(
            settings.limit, self._chat, settings.fewshot_as_multiturn and self._chat, settings.seed
        )
        selections = {name: text for name, text in modes.items() if name != LORACL}
        if LORACL in modes:
            selections = dict.fromkeys(SOURCES, "") | selections
        self._lm = ModesLM(
            subject.backend({name: text or name for name, text in selections.items()}, watch),
            watch,
            seed=settings.seed,
            max_new_tokens=settings.max_gen_toks,
        )

    def evaluate(
        self, output: Path, *, overwrite: bool, require: Sequence[str], command: str
    ) -> Evaluation:
        """Evaluate what is not in the folder yet.

        Raises:
            InputError: If a condition cannot be read, or compares what there is none of.
            StoppedError: On Ctrl-C; what was finished is kept.
        """
        names = [*self._tasks.tasks, *self._tasks.groups]
        gates = [read_gate(text, self._modes, names) for text in require]
        kinds = {
            name: scored_as(name, task, self._tasks.asked.get(name))
            for name, task in self._tasks.tasks.items()
        }
        check_means(gates, kinds, self._tasks.groups)
        self._watch("Hashing the weights", 0, None)
        facts = self._facts(command)
        store = Store(output, facts, overwrite=overwrite, inputs=self._subject.folders)
        done = 0
        try:
            for name, task in self._tasks.tasks.items():
                self._task(name, task, facts, store)
                done += 1
        except KeyboardInterrupt:
            of = f"{done} of {len(self._tasks.tasks)} tasks"
            if not (store.folder / RUN_FILE).is_file():
                raise StoppedError(
                    f"Stopped after {of}; nothing was written.", "Give the same command again."
                ) from None
            raise StoppedError(
                f"Stopped after {of}; the results so far are in {store.folder}.",
                "Give the same command again to go on.",
            ) from None
        store.begin()
        summary = Summary.of(read_results(store.folder), read_run(store.folder))
        how = partial(score, summary), partial(turned, summary)
        failures = (gate.failure(*how) for gate in gates)
        return Evaluation(store.folder, summary, tuple(why for why in failures if why))

    def _task(self, name: str, task: LmTask, facts: Mapping[str, Any], store: Store) -> None:
        """Evaluate the modes that have no result of a task yet."""
        self._watch(f"{name}: making prompts", 0, None)
        prepared = drive.Prepared(self._lm, name, task, self._asking)
        identity = task_identity(task, task.instances)
        if name in self._tasks.asked:
            identity["metric"] = self._tasks.asked[name]
        main = main_metric(name, task, self._tasks.asked.get(name))
        by = judge_identity(self._judge, task.higher_is_better())
        if by:
            identity = {**identity, "judge": by}
        identities = {mode: self._identity(mode, identity, facts) for mode in self._modes}
        known = {
            mode: store.find(mode, name, digest(of_mode)) for mode, of_mode in identities.items()
        }
        for result in known.values():
            if result is not None:
                store.take(result)
        wanted = [mode for mode, result in known.items() if not self._is_there(result)]
        self._lm.wanted, self._lm.task = wanted, name
        for mode in wanted:
            self._lm.mode = mode
            scores = drive.run(self._lm, prepared, self._asking, main, log=self._log_samples)
            if self._judge and by:
                self._watch(f"{name}: judging {mode}", 0, None)
                scores = judged(scores, self._judge)
            store.put(
                TaskResult(
                    mode=mode,
                    selection=self._selection(mode),
                    task=name,
                    metric=scores.metric,
                    higher_is_better=scores.higher_is_better,
                    samples=scores.samples,
                    metrics=scores.metrics,
                    protocol=self._settings.protocol if is_own(task) else "lm-eval",
                    version=identity["version"],
                    key=digest(identities[mode]),
                    identity=identities[mode],
                    seconds=round(self._lm.seconds / len(wanted), 3),
                    documents=scores.documents,
                    value=scores.value,
                    drawn=scores.drawn,
                )
            )
        self._lm.forget()

    def _is_there(self, result: TaskResult | None) -> bool:
        """Whether a result is known, and says as much as is asked for."""
        if result is None:
            return False
        return not self._log_samples or all(one.prompt is not None for one in result.samples)

    def _identity(
        self, mode: str, task: Mapping[str, Any], facts: Mapping[str, Any]
    ) -> dict[str, Any]:
        return {
            "hashes": facts["hashes"],
            "selection": self._selection(mode),
            "task": task,
            "settings": facts["settings"],
        }

    def _selection(self, mode: str) -> str:
        return _PER_PROMPT if mode == LORACL else str(Selection.parse(self._modes[mode]))

    def _facts(self, command: str) -> dict[str, Any]:
        """What ``run.json`` holds."""
        settings = self._settings
        found = versions(*_LIBRARIES)
        return {
            "command": command,
            "base": self._subject.base,
            "tuned": self._subject.tuned,
            "modes": {mode: self._selection(mode) for mode in self._modes},
            "tasks": list(self._tasks.tasks),
            "groups": {name: group.to_json() for name, group in self._tasks.groups.items()},
            "asked": list(self._tasks.names),
            "left_out": {
                name: part
                for name, task in self._tasks.tasks.items()
                if (part := left_out(name, task))
            },
            "settings": {
                "limit": settings.limit,
                "num_fewshot": settings.num_fewshot,
                "chat_template": self._chat,
                "max_gen_toks": settings.max_gen_toks,
                "protocol": settings.protocol,
                "seed": settings.seed,
                # Where nothing is a conversation it has no say.
                "fewshot_as_multiturn": settings.fewshot_as_multiturn or not self._chat,
                "engine": self._subject.engine,
                "dtype": self._subject.dtype,
                "lm_eval": found["lm_eval"],
                "taia": found["taia"],
            },
            "hashes": self._subject.hashes(),
            "versions": found,
            "recipe": self._subject.recipe(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
