"""Tasks by their names: the paper's, the user's own, and all of lm-evaluation-harness's."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from taia.errors import (
    DownloadError,
    InputError,
    RunError,
    TaiaError,
    first_line,
    out_of_memory,
)
from taia.evaluation.harness.known import check_tasks, family
from taia.evaluation.harness.metric import asked_metrics, main_metric
from taia.evaluation.harness.stages import read_stages
from taia.evaluation.scores.groups import Group, GroupMetric
from taia.evaluation.scores.identity import canonical
from taia.evaluation.tasks import FOLDER
from taia.offline import without_waiting

#: A task of lm-evaluation-harness, which has no types.
LmTask: TypeAlias = Any

#: Of a task's configuration: where it lies and what it was told, which the data's hash tells.
_PLACES: Final = frozenset({"metadata", "dataset_kwargs"})
#: Of its metadata: what is told by taia, which the settings and the data's hash tell.
_TOLD: Final = frozenset({"config_source", "data_dir", "protocol", "hub"})
_OFFLINE: Final = (
    "OfflineMode",
    "ConnectionError",
    "DatasetNotFound",
    "ConnectTimeout",
    "HfHubHTTP",
)


@dataclass(frozen=True)
class Tasks:
    """What was asked for.

    Attributes:
        names: Of tasks and groups, as they were asked for; of a tag, its tasks.
        tasks: Name → lm-evaluation-harness's task, groups taken apart, in the order given.
        groups: Name → what is in it, and how its file makes a score of that.
        asked: Task → the metric that shall count, where one was asked for.
    """

    names: tuple[str, ...]
    tasks: Mapping[str, LmTask]
    groups: Mapping[str, Group]
    asked: Mapping[str, str]


def load_tasks(
    names: Sequence[str],
    folders: Sequence[Path],
    metadata: Mapping[str, Any],
    *,
    num_fewshot: int | None = None,
    metrics: Mapping[str, str] | None = None,
) -> Tasks:
    """Load tasks and their data.

    Args:
        names: Of tasks, groups or tags.
        folders: With task files of the user's, searched before taia's and
            lm-evaluation-harness's own.
        metadata: What the tasks' functions are told.
        num_fewshot: Examples before each question, where the task does not rule them out.
        metrics: Task, group or tag → the metric that shall count.

    Raises:
        InputError: If a name is unknown, a task needs what is not here, is there in two forms, or
            cannot be asked or scored as it wants to be.
        DownloadError: If its data cannot be fetched.
        RunError: If memory runs out.
    """
    check_tasks(names, folders)
    manager = _manager(list(dict.fromkeys(names)), folders, metadata)
    tasks: dict[str, Any] = {}
    groups: dict[str, Group] = {}
    of: dict[str, list[str]] = {}
    shown: dict[str, None] = {}
    for name in dict.fromkeys(names):
        loaded = _load(manager, name)
        for task, value in loaded["tasks"].items():
            if task in tasks and _form(tasks[task]) != _form(value):
                raise InputError(
                    f"The task {task} of {name} has other settings than the one asked for before.",
                    "Ask for the two in runs of their own, each with its --output.",
                )
            tasks.setdefault(task, value)
        found = {group.name: _group(group) for group in loaded.get("groups", {}).values()}
        groups |= found
        of |= {name: list(loaded["tasks"]), **{n: list(group.tasks) for n, group in found.items()}}
        shown |= dict.fromkeys([name] if name in found else loaded["tasks"])
    asked = asked_metrics(metrics or {}, {**of, **{task: [task] for task in tasks}})
    for name, task in tasks.items():
        _check(task)
        left_out(name, task)
        main_metric(name, task, asked.get(name))
        default = task.get_config("num_fewshot")
        if num_fewshot is not None and default != 0:
            task.set_config(key="num_fewshot", value=num_fewshot)
        elif default is None:
            task.set_config(key="num_fewshot", value=0)
    return Tasks(tuple(shown), tasks, groups, asked)


def _form(task: LmTask) -> str:
    return canonical(task.config.to_dict(keep_callable=True))


def _group(group: Any) -> Group:  # noqa: ANN401 - lm_eval has no types
    """A group of lm-evaluation-harness as a run keeps it."""
    return Group(
        group.name,
        tuple(group.child_names),
        tuple(task.task_name for task in group.get_all_tasks()),
        tuple(
            GroupMetric(
                one.metric,
                None if one.filter_list is None else tuple(one.filter_list),
                bool(one.weight_by_size),
            )
            for one in group.aggregate_metric_list or ()
        ),
    )


def task_identity(task: LmTask, instances: Sequence[Any]) -> dict[str, Any]:
    """What a task is: its version, its configuration with its functions, and every item.

    A function is the whole module it lives in, with what that imports from beside it; see
    :func:`taia.evaluation.scores.identity.canonical`.

    Args:
        task: The task.
        instances: Its requests, which hold prompts, examples, answers and how to generate.
    """
    config = {k: v for k, v in task.config.to_dict(keep_callable=True).items() if k not in _PLACES}
    told = dict(task.get_config("metadata") or {})
    parts = {
        "class": type(task),
        "config": config,
        "metadata": {name: value for name, value in told.items() if name not in _TOLD},
        "metrics": getattr(task, "_metric_fn_list", {}),
        "aggregation": task.aggregation(),
        "filters": getattr(task, "_filters", ()),
    }
    items = hashlib.sha256()
    for one in instances:
        items.update(canonical([one.request_type, one.arguments, one.doc]).encode())
    return {
        "version": version(task),
        "config": hashlib.sha256(canonical(parts).encode()).hexdigest(),
        "items": items.hexdigest(),
    }


def version(task: LmTask) -> str:
    """A task's version."""
    return str(task.VERSION)


def left_out(name: str, task: LmTask) -> dict[str, str]:
    """What a task that asks a part of another says of that: which, and the sentence to show.

    Returns:
        ``of`` and ``told``; nothing of a whole task.

    Raises:
        InputError: If its ``left_out`` is not these two.
    """
    found = (task.get_config("metadata") or {}).get("left_out")
    if found is None:
        return {}
    if not isinstance(found, Mapping) or set(found) != {"of", "told"}:
        raise InputError(
            f"The task {name} has left_out: {found!r} in its metadata.",
            "Write it as {of: TASK, told: SENTENCE}.",
        )
    return {key: str(value) for key, value in found.items()}


def _manager(names: list[str], folders: Sequence[Path], metadata: Mapping[str, Any]) -> Any:  # noqa: ANN401 - lm_eval has no types
    """A manager that knows all names.

    lm-evaluation-harness reads thousands of files to know its own; that is left out where the
    folders are enough.
    """
    from lm_eval.tasks import TaskManager

    def manager(inner: Sequence[Path], defaults: bool = False) -> Any:  # noqa: ANN401 - as above
        paths = [str(folder) for folder in (*inner, FOLDER, *folders)]
        return TaskManager(include_path=paths, include_defaults=defaults, metadata=dict(metadata))

    own = manager([])
    if theirs := [name for name in names if name not in own.all_tasks]:
        families = family(theirs)
        own = manager(families) if families else None
        if own is None or not all(_is_whole(name, own.task_index) for name in names):
            own = manager([], defaults=True)
    for name in names:
        if name not in own.all_tasks:
            raise InputError(
                f"There is no task {name!r}.",
                "Check the name, or give your own task files with --include-path.",
            )
    return own


def _is_whole(name: str, index: Mapping[str, Any]) -> bool:
    """Whether an index of some folders has a task, or a group with all that is in it.

    Of a tag it cannot be told who else bears it.
    """
    entry = index.get(name)
    if entry is None or entry.kind.name == "TAG":
        return False
    if entry.kind.name != "GROUP":
        return True
    inner = (entry.cfg or {}).get("task") or []
    members = [inner] if isinstance(inner, str) else list(inner)
    return all(isinstance(one, str) and _is_whole(one, index) for one in members)


def _load(manager: Any, name: str) -> Any:  # noqa: ANN401 - lm_eval has no types
    try:
        with without_waiting():
            return manager.load([name])
    except TaiaError:
        raise
    except ImportError as error:
        raise InputError(
            f"The task {name} needs a package that is not here: {first_line(error)}.",
            "Install it, or leave the task out.",
        ) from error
    except Exception as error:  # what libraries raise for one missing file has no common class
        if out_of_memory(error):
            raise RunError(
                f"The data of the task {name} need more memory than there is.",
                "Leave the task out, or take a machine with more.",
            ) from error
        if any(word in str(cause_name) for cause_name in _lineage(error) for word in _OFFLINE):
            raise DownloadError(
                f"The data of the task {name} cannot be fetched: {first_line(error)}.",
                "Connect, or unset HF_HUB_OFFLINE and HF_DATASETS_OFFLINE, and try again.",
            ) from error
        raise InputError(
            f"The task {name} cannot be loaded: {first_line(error)}.",
            "Check its file and its data.",
        ) from error


def _check(task: LmTask) -> None:
    name = task.config.task
    if getattr(task, "UNSAFE_CODE", False):
        raise InputError(
            f"The task {name} runs the code that the model writes.",
            "taia does not do that: use lm-evaluation-harness, in a sandbox.",
        )
    if getattr(task, "MULTIMODAL", False):
        raise InputError(f"The task {name} shows pictures.", "Give tasks of text.")
    if task.OUTPUT_TYPE == "generate_until":
        read_stages(task.get_config("generation_kwargs") or {})


def _lineage(error: BaseException) -> list[str]:
    """Names of an error's classes and of those that caused it."""
    names: list[str] = []
    current: BaseException | None = error
    while current is not None:
        names += [kind.__name__ for kind in type(current).__mro__]
        current = current.__cause__ or current.__context__
    return names
