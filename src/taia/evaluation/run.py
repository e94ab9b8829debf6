"""An evaluation, from models and tasks to a folder of results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from taia.errors import InputError, SelectionError, StoppedError
from taia.evaluation.loracl import LORACL
from taia.evaluation.results import TaskResult, read_run, result_path, read_result
from taia.selection import Selection
from taia.selection.listing import read_modes

if TYPE_CHECKING:
    from collections.abc import Callable

    from taia.evaluation.harness.subject import Subject
    from taia.evaluation.harness.tasks import Tasks

    Watch: TypeAlias = Callable[[str, int, int | None], None]

#: How answers of the paper's tasks are matched.
Protocol: TypeAlias = Literal["taia", "authors"]

MODES: Final = "base,tuned,taia,taif"
#: What LoRACL is, where other modes have a selection.
_LORACL: Final = "base or tuned, per prompt"


@dataclass(frozen=True)
class Settings:
    """What results depend on, beside weights and tasks.

    Attributes:
        limit: At most so many items of each task; ``None``: all.
        num_fewshot: Examples before each question; ``None``: as each task says.
        chat_template: Whether prompts are in the chat format; ``None``: where there is one.
        max_gen_toks: Longest answer in tokens; ``None``: as each task says.
        protocol: How answers of the paper's tasks are matched.
        seed: Of the examples shown and of draws.
    """

    limit: int | None = None
    num_fewshot: int | None = None
    chat_template: bool | None = None
    max_gen_toks: int | None = None
    protocol: Protocol = "taia"
    seed: int = 1234


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation gave.

    Attributes:
        output: The run's folder.
        facts: What its ``run.json`` holds.
        results: Every result in it, in the order of modes and tasks.
        unmet: Of each condition that is not met, why.
    """

    output: Path
    facts: Mapping[str, Any]
    results: tuple[TaskResult, ...]
    unmet: tuple[str, ...]


def evaluate(
    base: str | Path | None,
    tuned: str | Path | None = None,
    *,
    tasks: Sequence[str],
    modes: str = MODES,
    output: str | Path = "taia-eval",
    settings: Settings | None = None,
    data_dir: str | Path | None = None,
    include_path: Sequence[str | Path] = (),
    dtype: str | None = None,
    device: str | None = None,
    batch_size: int = 32,
    load_in_4bit: bool = False,
    server: Server | None = None,
    log_samples: bool = False,
    overwrite: bool = False,
    require: Sequence[str] = (),
    command: str | None = None,
    watch: Watch | None = None,
) -> Evaluation:
    """Evaluate modes of one update side by side, with lm-evaluation-harness.

    Weights are loaded once. Of each task, all modes are computed together. Each result is kept as
    soon as it is known; the same call goes on where an earlier one was stopped.

    Args:
        base: The base model: a folder or hub name. With a server it only lends its tokenizer.
        tuned: The tuned model or adapter; none to evaluate the base alone.
        tasks: Names of tasks, groups or tags: the paper's, lm-evaluation-harness's, your own.
        modes: Modes or selections with commas between, ``NAME=SELECTION`` to name one, and
            ``loracl``.
        output: The run's folder.
        settings: What else results depend on.
        data_dir: Where the paper's tasks read their files; by default from the hub.
        include_path: Folders of task files of your own.
        dtype: ``float32``, ``bfloat16`` or ``float16``; by default float32 on a CPU, and what the
            checkpoint is stored in elsewhere.
        device: Where to compute; by default a GPU if there is one.
        batch_size: How many answers are generated at once.
        load_in_4bit: Whether the base's weights are quantised.
        server: Who answers in place of weights in memory.
        log_samples: Whether results keep prompts and responses.
        overwrite: Whether another run's results at ``output`` go.
        require: Conditions on the scores, see :mod:`taia.evaluation.gates`.
        command: What was typed, for the record.
        watch: Told how far the work is.

    Returns:
        The run's results, with those of earlier calls.

    Raises:
        InputError: If a task, mode or condition is unknown, or a model cannot be used.
        DestinationError: If ``output`` holds another run.
        DownloadError: If a model or a task's data cannot be fetched.
        OutputError: If a result cannot be written.
        StoppedError: On Ctrl-C; what was finished is kept.
        RunError: If a task or a model fails.
    """
    settings = settings or Settings()
    watch = watch or (lambda *_: None)
    _check(base, tuned, server, settings, batch_size, tasks)
    selections = _selections(modes, has_update=tuned is not None or server is not None)
    watch("Loading libraries", 0, None)
    from taia.evaluation.harness.quiet import quiet_harness
    from taia.evaluation.harness.subject import InMemory
    from taia.evaluation.harness.tasks import load_tasks
    from taia.evaluation.paper import FOLDER

    with quiet_harness():
        subject: Subject = (
            Served(server, base, list(selections))
            if server is not None
            else InMemory(
                _given(base),
                tuned,
                dtype=dtype,
                device=device,
                max_rows=batch_size,
                load_in_4bit=load_in_4bit,
            )
        )
        watch("Loading tasks", 0, None)
        loaded = load_tasks(
            tasks,
            [FOLDER, *map(Path, include_path)],
            {"protocol": settings.protocol, **({"data_dir": str(data_dir)} if data_dir else {})},
            num_fewshot=settings.num_fewshot,
        )
        return _Run(subject, loaded, selections, settings, log_samples, watch).evaluate(
            Path(output), overwrite=overwrite, require=require, command=command
        )
