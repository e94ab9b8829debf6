"""The demonstration's steps: get a model, tune it, compose TAIA, ask every mode, report."""

from __future__ import annotations

import json
import math
import shlex
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from taia.analysis.norms import UPDATE_FILE, update_norms, write_norms
from taia.checkpoint.compose import compose
from taia.checkpoint.inspection import look_ahead
from taia.checkpoint.locate import Located, locate
from taia.checkpoint.output.destination import check_output
from taia.checkpoint.output.staging import staged, write_file
from taia.demo.model import SMOLLM2, cached_model
from taia.demo.results import ModeAnswers, facts, results, write_run
from taia.demo.setting import MODES, NORMALISE, RECIPE, SEED, questions
from taia.errors import RunError, SelectionError
from taia.evaluation.scores.summary import Summary
from taia.loading.models import check_live, load_tokenizer
from taia.loading.quiet import quiet
from taia.reporting.html import render
from taia.reporting.progress import Watcher, unwatched
from taia.reporting.runs import open_runs
from taia.runtime.switchable import SwitchableModel
from taia.selection import Selection
from taia.training.recipe import Recipe

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

    from taia.demo.questions import Question

#: What tells an earlier demonstration from a folder that is not ours to replace.
_MARKS: Final = ("adapter/adapter_config.json",)


@dataclass(frozen=True)
class Demonstration:
    """What the demonstration gave.

    Attributes:
        output: The folder written: ``adapter/``, ``taia/``, ``report.html``, and what ``taia eval``
            leaves as well: ``run.json``, ``results/``, ``update.json``.
        summary: What it says.
    """

    output: Path
    summary: Summary


def demonstrate(
    output: Path,
    *,
    model: str | None = None,
    modes: Sequence[str] = MODES,
    seed: int = SEED,
    limit: int | None = None,
    overwrite: bool = False,
    recipe: Recipe = RECIPE,
    watch: Watcher = unwatched,
) -> Demonstration:
    """Tune a model on mismatched data, then ask it questions in several modes.

    Everything is in float32 on the CPU: the numbers do not depend on what a machine is fast at.

    Args:
        output: The folder to write. It appears whole or not at all.
        model: A model folder or a name on the hub; by default SmolLM2-135M-Instruct, fetched once.
        modes: Named modes or selections, in the order shown.
        seed: Of the training.
        limit: At most so many questions of each kind.
        overwrite: Replace an earlier demonstration at ``output``.
        recipe: How to tune, if not as the data card says.
        watch: Told how far the work is.

    Returns:
        What was measured, and where it lies.

    Raises:
        CheckpointError: If the model cannot be loaded.
        DownloadError: If the default model cannot be fetched.
        DestinationError: If the output may not be written.
        OutputError: If it cannot be.
        RunError: If training diverges.
        SelectionError: If a mode cannot be read.
    """
    selections = {mode: str(Selection.parse(mode)) for mode in modes}
    if not selections:
        raise SelectionError("No mode is given.", f"Give some, as in --modes {','.join(MODES)}.")
    asked = questions(limit)
    place = locate(model) if model else None
    command = ["taia", "demo", "--modes", ",".join(modes), "--seed", str(seed)]
    command += ["--model", model] if model else []
    command += ["--limit", str(limit)] if limit is not None else []
    named, output = output, check_output(output, [place.path] if place else [], overwrite, _MARKS)
    recipe = replace(recipe, seed=seed)
    clock = _Clock()

    with clock("getting the model"):
        place = place or Located(SMOLLM2.name, cached_model(say=watch))
        check_live(*look_ahead(place.path, None, modes))
        watch("Loading libraries")
        with quiet():
            tokenizer = load_tokenizer(place)

    with staged(output, overwrite, _MARKS) as staging:
        adapter, taia = staging / "adapter", staging / "taia"
        with clock("training"), quiet():
            tuned, losses = _train(place, tokenizer, recipe, watch)
            # "auto" would ask the hub whether the vocabulary was resized.
            tuned.save_pretrained(str(adapter), save_embedding_layers=False)
        with clock("composing TAIA"):
            watch("Composing TAIA")
            compose(place, Located("adapter", adapter), taia, "taia")
            for name in ("taia_config.json", "README.md"):
                _relocate(taia / name, staging, output)
        scores = {}
        switchable = SwitchableModel.wrap(tuned)
        for mode in selections:
            with clock(f"asking {mode}"), quiet():
                scores[mode] = _ask(switchable, tokenizer, asked, mode, watch)
        with clock("measuring the update"):
            watch("Measuring the update")
            norms = update_norms(place.path, adapter)
            norms = replace(norms, base=place.repo or place.given, tuned=str(named / "adapter"))
            write_norms(staging / UPDATE_FILE, norms)
        watch("Writing the report")
        told = facts(
            place,
            Located(str(named / "adapter"), adapter),
            tokenizer,
            command=shlex.join(command),
            selections=selections,
            asked=asked,
            limit=limit,
            recipe=recipe,
            losses=losses,
            seconds=clock.seconds,
        )
        write_run(
            staging, told, results(ModeAnswers(asked, selections, scores), told, clock.seconds)
        )
        (run,) = open_runs([staging])
        page = render([run], shlex.join(["taia", "report", str(named)]))
        write_file(staging / "report.html", page)
    return Demonstration(output, run.summary)


def _train(
    place: Located, tokenizer: PreTrainedTokenizerBase, recipe: Recipe, watch: Watcher
) -> tuple[PeftModel, list[float]]:
    from taia.training.arguments import arguments
    from taia.training.data import Source
    from taia.training.run import make_trainer, read_data, ready_model

    data = read_data(recipe, [Source(name) for name in recipe.data], tokenizer, watch)
    ready = ready_model(place, recipe, watch)
    with tempfile.TemporaryDirectory(prefix="taia-") as scratch:
        args = arguments(recipe, Path(scratch), cpu=True)
        trainer = make_trainer(ready, tokenizer, data, recipe, args, watch=watch)
        trainer.train()
    return cast("PeftModel", trainer.finished_model()), trainer.losses


def _ask(
    model: SwitchableModel,
    tokenizer: PreTrainedTokenizerBase,
    asked: Sequence[Question],
    mode: str,
    watch: Watcher,
) -> list[list[float]]:
    from taia.demo.questions import score_options

    done = 0

    def count(number: int) -> None:
        nonlocal done
        done += number
        watch(f"Asking {mode}", done, len(asked))

    watch(f"Asking {mode}", 0, len(asked))
    with model.mode(mode):
        scores = score_options(model.model, tokenizer, asked, normalise=NORMALISE, progress=count)
    if not all(math.isfinite(score) for row in scores for score in row):
        raise RunError(f"In mode {mode} the model's scores are not numbers.", "Use another model.")
    return scores


def _relocate(file: Path, before: Path, after: Path) -> None:
    """Let a record written in the staging folder name the place where it will be."""
    text = file.read_text(encoding="utf-8")
    for old, new in (
        (str(before), str(after)),
        (json.dumps(str(before))[1:-1], json.dumps(str(after))[1:-1]),
    ):
        text = text.replace(old, new)
    file.write_text(text, encoding="utf-8")


class _Clock:
    """Wall time of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - start, 2)
