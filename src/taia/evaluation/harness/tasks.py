"""Tasks by their names: the paper's, the user's own, and all of lm-evaluation-harness's."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from taia.errors import DownloadError, InputError, TaiaError, first_line
from taia.evaluation.harness.known import check_tasks, family
from taia.evaluation.scores.pooling import SUITES
from taia.evaluation.scores.source import canonical
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
        tasks: Name → lm-evaluation-harness's task, groups taken apart, in the order given.
        groups: Name → the tasks in it, which count as one. The paper's is none of them: its
            average is over tasks that stand side by side.
    """

    tasks: Mapping[str, LmTask]
    groups: Mapping[str, list[str]]


def load_tasks(
    names: Sequence[str],
    folders: Sequence[Path],
    metadata: Mapping[str, Any],
    *,
    num_fewshot: int | None = None,
) -> Tasks:
    """Load tasks and their data.

    Args:
        names: Of tasks, groups or tags.
        folders: With task files of the user's, searched before taia's and
            lm-evaluation-harness's own.
        metadata: What the tasks' functions are told.
        num_fewshot: Examples before each question, where the task does not rule them out.

    Raises:
        InputError: If a name is unknown, or a task needs what is not here.
        DownloadError: If its data cannot be fetched.
    """
    check_tasks(names, folders)
    manager = _manager(list(dict.fromkeys(names)), folders, metadata)
    tasks: dict[str, Any] = {}
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        loaded = _load(manager, name)
        tasks |= {task: value for task, value in loaded["tasks"].items() if task not in tasks}
        if name not in SUITES:
            groups |= {
                str(group): [task.task_name for task in members.get_all_tasks()]
                for group, members in loaded.get("groups", {}).items()
            }
    for task in tasks.values():
        _check(task)
        default = task.get_config("num_fewshot")
        if num_fewshot is not None and default != 0:
            task.set_config(key="num_fewshot", value=num_fewshot)
        elif default is None:
            task.set_config(key="num_fewshot", value=0)
    return Tasks(tasks, groups)


def task_identity(task: LmTask, instances: Sequence[Any]) -> dict[str, Any]:
    """What a task is: its version, its configuration with its functions, and every item.

    A function is the whole module it lives in, with what that imports from beside it; see
    :func:`taia.evaluation.scores.source.canonical`.

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


def is_own(task: LmTask) -> bool:
    """Whether a task is one of taia's, whose matching depends on the protocol."""
    source = (task.get_config("metadata") or {}).get("config_source", "")
    return Path(source).parent == FOLDER


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


def _lineage(error: BaseException) -> list[str]:
    """Names of an error's classes and of those that caused it."""
    names: list[str] = []
    current: BaseException | None = error
    while current is not None:
        names += [kind.__name__ for kind in type(current).__mro__]
        current = current.__cause__ or current.__context__
    return names
