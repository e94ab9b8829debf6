"""An evaluation, from models and tasks to a folder of results."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from taia.checkpoint.inspection import look_ahead
from taia.checkpoint.kinship import doubts, warn_of_doubts
from taia.checkpoint.output.staging import claimed
from taia.errors import InputError, SelectionError
from taia.evaluation.harness.known import check_tasks, data_sets, installed, single_tasks
from taia.evaluation.loracl import LORACL
from taia.evaluation.scores.gates import Gate, read_gate
from taia.evaluation.scores.store import check_folder
from taia.evaluation.settings import MODES, Server, Settings, Vllm, Watch
from taia.evaluation.tasks import DEFAULT
from taia.evaluation.tasks.registry import find, load_task, paper_tasks
from taia.loading.devices import device_called
from taia.loading.models import check_live, check_speaks, dtype_called
from taia.offline import check_reachable
from taia.packages import needing, require_packages
from taia.selection.listing import read_modes

if TYPE_CHECKING:
    from taia.evaluation.harness.running import Evaluation
    from taia.evaluation.harness.subject import Subject
    from taia.evaluation.judge import Judge


@needing("eval", "lm_eval", "torch", "transformers", "datasets", "jinja2")
def evaluate(
    base: str | Path | None,
    tuned: str | Path | None = None,
    *,
    tasks: Sequence[str] = (DEFAULT,),
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
    vllm: Vllm | None = None,
    judge: Judge | None = None,
    log_samples: bool = False,
    overwrite: bool = False,
    declare: Mapping[str, str] | None = None,
    require: Sequence[str] = (),
    command: str | None = None,
    watch: Watch | None = None,
    on_doubt: Callable[[str], None] | None = None,
) -> Evaluation:
    """Evaluate modes of one update side by side, with lm-evaluation-harness.

    Warns (:class:`~taia.checkpoint.kinship.DoubtfulPairWarning`) where records say that the tuned
    model was made from another base.

    Weights are loaded once. Of each task, all modes are computed together. Each result is kept as
    soon as it is known; the same call goes on where an earlier one was stopped.

    Args:
        base: The base model: a folder or hub name. With a server it only lends its tokenizer.
        tuned: The tuned model or adapter; none to evaluate the base alone.
        tasks: Names of tasks, groups or tags: taia's, lm-evaluation-harness's, your own; by
            default what needs no network and is more than knowledge (docs/tasks.md).
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
        vllm: How a vLLM is started that answers in their place, with a LoRA for each mode; the
            tuned model is an adapter then.
        judge: Who judges answers to harmful prompts, beside the phrases of a refusal; only where
            a task has such.
        log_samples: Whether results keep prompts and responses.
        overwrite: Whether another run's results at ``output`` go.
        declare: Pattern of a tensor's name → component, for names that anatomy does not know.
        require: Conditions on the scores, see :mod:`taia.evaluation.scores.gates`.
        command: What was typed, for the record.
        watch: Told how far the work is.
        on_doubt: Told, in place of a warning, what speaks against the pair.

    Returns:
        What the run says, with the results of earlier calls.

    Raises:
        InputError: If a task, mode or condition is unknown, or a model cannot be used.
        DestinationError: If ``output`` holds another run, or another process writes there.
        DownloadError: If a model or a task's data cannot be fetched.
        OutputError: If a result cannot be written.
        StoppedError: On Ctrl-C; what was finished is kept.
        RunError: If a task or a model fails.
    """
    settings = settings or Settings()
    watch = watch or (lambda *_: None)
    _check(settings, tasks, batch_size)
    if judge is not None:
        require_packages("eval", "httpx")
    if server is not None:
        why, whose = "on a server, which has the weights", "the server"
        _refuse(why, whose, tuned=tuned, dtype=dtype, declare=declare, vllm=vllm)
        _refuse(why, whose, device=device, load_in_4bit=load_in_4bit)
    if vllm is not None:
        why, whose = "on vLLM, which has settings of its own", "vLLM"
        _refuse(why, whose, device=device, load_in_4bit=load_in_4bit)
    selections = _selections(modes, has_update=tuned is not None or server is not None)
    gates = [read_gate(text, selections) for text in require]
    folders = [Path(folder) for folder in include_path]
    check_tasks(tasks, folders)
    _check_gates(gates, tasks, folders)
    theirs = single_tasks(tasks, folders)  # which may be called as the paper's
    own = paper_tasks(name for name in tasks if name not in theirs)
    require_packages("eval", *(package for name in own for package in find(name).needs))
    for name in own:
        if data_dir is not None or find(name).hub is None:
            load_task(name, None if data_dir is None else Path(data_dir))
    places = []
    if base is not None:
        kept = [text for name, text in selections.items() if text and server is None]
        places = look_ahead(base, tuned, kept, declare)
    if base is not None and server is None and on_doubt is None:
        warn_of_doubts(base, tuned)
    elif base is not None and server is None and on_doubt is not None:
        for doubt in doubts(base, tuned):
            on_doubt(doubt)
    check_folder(Path(output), [place.path for place in places], overwrite)
    if data_dir is None:
        mend = "Connect; or give the files' folder with --data-dir (docs/tasks.md)."
        check_reachable([data.name for name in own if (data := find(name).hub)], mend)
    check_reachable(data_sets(tasks), "Connect, or unset HF_HUB_OFFLINE, and try again.")
    if dtype is not None:
        dtype_called(dtype)
    if device is not None:
        device_called(device)
    if places and server is None:
        check_live(*places)
    elif places:
        check_speaks(places[0])
    watch("Loading libraries", 0, None)
    from taia.evaluation.harness.drive import quiet_harness
    from taia.evaluation.harness.running import Running
    from taia.evaluation.harness.scores import refuse_idle_judge
    from taia.evaluation.harness.subject import InMemory, OnServer
    from taia.evaluation.harness.tasks import load_tasks

    with claimed(Path(output)), quiet_harness(), ExitStack() as stack:
        subject: Subject
        if server is not None:
            subject = OnServer(server, base, list(selections), rows=batch_size)
        elif base is not None and vllm is not None:
            from taia.evaluation.vllm.subject import OnVllm

            watch("Writing adapters", 0, None)
            subject = stack.enter_context(
                OnVllm(vllm, base, tuned, selections, dtype=dtype, rows=batch_size, declare=declare)
            )
        elif base is not None:
            subject = InMemory(
                base,
                tuned,
                dtype=dtype,
                device=device,
                rows=batch_size,
                four_bits=load_in_4bit,
                declare=declare,
            )
        else:
            raise InputError("No model is given.", "Give a base model, or a server.")
        watch("Loading tasks", 0, None)
        loaded = load_tasks(
            tasks,
            folders,
            {"protocol": settings.protocol, **({"data_dir": str(data_dir)} if data_dir else {})},
            num_fewshot=settings.num_fewshot,
            metrics=settings.metrics,
        )
        if judge is not None:
            refuse_idle_judge(loaded.tasks)
        running = Running(subject, loaded, selections, settings, log_samples, judge, watch)
        return running.evaluate(
            Path(output), overwrite=overwrite, require=require, command=command or "taia.evaluate"
        )


def _selections(modes: str, has_update: bool) -> dict[str, str]:
    """Name → selection of each mode; LoRACL's is none.

    Raises:
        SelectionError: If one cannot be read, or there is nothing to select from.
    """
    found = read_modes(modes, also=[LORACL])
    if not has_update and list(found) != ["base"]:
        raise SelectionError(
            "No tuned model is given, so there is no update to keep a part of.",
            "Give TUNED, or --modes base.",
        )
    return found


def _refuse(why: str, whose: str, **given: object) -> None:
    """Refuse what is about weights in memory, where others have them.

    Raises:
        InputError: If anything is given.
    """
    for name, value in given.items():
        if value:
            raise InputError(f"{name} has no effect {why}.", f"Leave {name} out, or {whose}.")


def _check_gates(gates: Sequence[Gate], tasks: Sequence[str], folders: Sequence[Path]) -> None:
    """Refuse conditions on tasks that are not evaluated, as far as their names tell.

    Raises:
        InputError: If there is one.
    """
    sides = [(gate.text, side) for gate in gates for side in (gate.left, gate.right)]
    # What ends like a sum may be one: that is told where all names are known.
    named = {
        side.task: text
        for text, side in sides
        if side.task is not None and not re.search(r"[+-][\d.]+$", side.task)
    }
    if not named:
        return
    single = {*paper_tasks(tasks), *(name for name in tasks if paper_tasks([name]) in ([], [name]))}
    evaluated = {*single, *tasks}
    if single == single_tasks(single, [*installed(), *folders]):  # else a group has others
        for task, text in named.items():
            if task not in evaluated:
                raise InputError(
                    f"The condition {text!r} names {task!r}, which is not evaluated.",
                    f"The tasks are {', '.join(sorted(evaluated))}.",
                )
    check_tasks(list(named), folders)


def _check(settings: Settings, tasks: Sequence[str], batch_size: int) -> None:
    if not tasks:
        raise InputError("No task is asked for.", "Name some, as in --tasks taia,arc_easy.")
    numbers = {
        "--limit": (settings.limit, 1),
        "--num-fewshot": (settings.num_fewshot, 0),
        "--max-gen-toks": (settings.max_gen_toks, 1),
        "--batch-size": (batch_size, 1),
    }
    for name, (value, least) in numbers.items():
        if value is not None and value < least:
            raise InputError(f"{name} is {value}.", f"Give at least {least}.")
