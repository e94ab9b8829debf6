"""From what was given to a search that is all set: the model, the tasks, the items in parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taia.analysis.norms import update_norms
from taia.checkpoint.folders import holds_adapter
from taia.checkpoint.locate import Located
from taia.checkpoint.output.manifest import MANIFEST
from taia.checkpoint.reading import read_json
from taia.errors import InputError
from taia.evaluation.harness.drive import Asking
from taia.evaluation.harness.model import ModesLM
from taia.evaluation.harness.subject import Live
from taia.evaluation.harness.tasks import load_tasks
from taia.evaluation.settings import Settings, Watch
from taia.loading.models import dtype_called, end_tokens
from taia.mending.answers import LENGTH
from taia.mending.budget import Clock
from taia.mending.flow import Flow
from taia.mending.items import MOST, Tokeniser, items_of
from taia.mending.journal import Journal
from taia.mending.scoring import Speed, TaskScoring
from taia.mending.sources import GivenData
from taia.mending.split import split
from taia.mending.supply import Supply
from taia.runtime.engine import Engine
from taia.runtime.switchable import SwitchableModel

#: Answers that are written together.
_ROWS = 32


@dataclass(frozen=True)
class Setting:
    """What a search is of, checked.

    Attributes:
        base: The model before fine-tuning.
        tuned: The model or adapter after it.
        learn: What the fine-tune was for.
        keep: What must not get worse.
        seed: Of the parts, of draws, of the search.
        dtype: What to compute in; None for what suits.
        device: Where to compute.
        declare: Pattern of a tensor's name → component.
        folders: With task files of the user's.
        command: What was typed.
    """

    base: Located
    tuned: Located
    learn: GivenData
    keep: GivenData
    seed: int
    dtype: str | None
    device: str
    declare: Mapping[str, str]
    folders: tuple[Path, ...]
    command: str


def set_up(setting: Setting, journal: Journal, clock: Clock, watch: Watch) -> Flow:
    """Load the model and the tasks, and put the items into parts.

    Raises:
        InputError: If a model or a task cannot be used.
        DataError: If there are too few items.
        DownloadError: If a task's data cannot be fetched.
    """
    seed = setting.seed
    watch("Loading the model", 0, None)
    model = SwitchableModel.load(
        setting.base.path,
        setting.tuned.path,
        {},
        dtype=None if setting.dtype is None else dtype_called(setting.dtype),
        device=setting.device,
        declare=setting.declare or None,
        check_pair=False,  # who gave their names has
    )
    subject = Live((setting.base, setting.tuned), model, rows=_ROWS, declare=setting.declare)
    backend = subject.backend({}, watch)
    encoder = backend.encoder
    chat = subject.has_chat_template
    lm, asking = ModesLM(backend, watch, seed=seed), Asking(MOST, chat, chat, seed)
    watch("Reading what is to be learnt and kept", 0, None)
    items = []
    for given in (setting.learn, setting.keep):
        tasks = load_tasks(given.tasks, setting.folders, {}) if given.tasks else None
        items.append(items_of(given, tasks, lm, asking))
    speed = Speed()
    names = list(dict.fromkeys((*setting.keep.tasks, *setting.learn.tasks)))
    return Flow(
        model=model,
        supply=Supply(
            Tokeniser(encoder, LENGTH),
            Engine(model, encoder.tokenizer, max_rows=_ROWS),
            end_tokens(model.model, encoder.tokenizer),
            journal,
            speed,
            seed,
            watch,
        ),
        learn=split(items[0], lambda item: item.key, "--learn", seed),
        keep=split(items[1], lambda item: item.key, "--keep", seed),
        scoring=TaskScoring(
            subject,
            names,
            setting.folders,
            Settings(seed=seed),
            speed,
            journal,
            watch,
            setting.command,
        ),
        journal=journal,
        clock=clock,
        seed=seed,
        is_adapter=holds_adapter(setting.tuned.path),
        evidence=_evidence(setting),
        watch=watch,
    )


def _evidence(setting: Setting) -> dict[str, Any]:
    """What the update's size, the training's record and the adapter's configuration say."""
    tuned = setting.tuned.path
    return {
        "size": _size(setting),
        "recipe": _trained(_told(tuned / MANIFEST)),
        "adapter": _told(tuned / "adapter_config.json"),
    }


def _size(setting: Setting) -> float | None:
    """‖ΔW‖/‖W‖ of all that the update changes; None where the base's numbers are no weights."""
    try:
        rows = update_norms(setting.base.path, setting.tuned.path, setting.declare or None).rows
    except InputError:  # of a quantised base
        return None
    whole = sum(row.weight**2 for row in rows) ** 0.5
    return float(sum(row.update**2 for row in rows) ** 0.5 / whole) if whole else None


def _told(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _trained(record: Mapping[str, Any]) -> Mapping[str, Any]:
    return record.get("recipe") or {} if record.get("kind") == "training" else {}
