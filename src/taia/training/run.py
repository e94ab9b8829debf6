"""A training run, from a recipe to a folder."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from transformers import set_seed

from taia.checkpoint.locate import Located, locate
from taia.checkpoint.output.destination import resolved, translated
from taia.checkpoint.output.staging import claimed
from taia.errors import RunError, StoppedError, out_of_memory
from taia.loading.models import load_tokenizer
from taia.loading.quiet import quiet
from taia.training import folder
from taia.training.accelerate.cpu import fsdp_on_cpu
from taia.training.ahead import data_files
from taia.training.arguments import arguments
from taia.training.baselines.from_recipe import regulariser, self_distilled
from taia.training.callbacks import StepTeller, StopOnRequest, TrainingWatch
from taia.training.data import DataOptions, PreparedData, Source, prepare
from taia.training.recipe import Recipe
from taia.training.record import Record, write_record
from taia.training.techniques import Ready, load, make_ready
from taia.training.trainable import rates
from taia.training.trainer import Trainer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, TrainerCallback
    from trl.trainer.sft_config import SFTConfig

    from taia.training.baselines.regularisers import Regulariser

_LESS_MEMORY: Final = (
    "Try a smaller --per-device-train-batch-size with more --gradient-accumulation-steps, a "
    "shorter --max-length, or --activation-checkpointing; --dry-run estimates what is needed."
)


@dataclass(frozen=True)
class Trained:
    """What a run gave.

    Attributes:
        output: The folder written.
        record: What is in its ``taia_config.json``.
    """

    output: Path
    record: Record


def train(
    recipe: Recipe,
    *,
    resume: bool = False,
    overwrite: bool = False,
    watch: TrainingWatch | None = None,
) -> Trained:
    """Fine-tune a model, and write an adapter or a checkpoint.

    In several processes (``accelerate launch``, ``torchrun``) each calls this alike.

    Args:
        recipe: How.
        resume: Go on with the run in ``recipe.output_dir`` from its newest checkpoint; the losses
            are those of a run that was not interrupted.
        overwrite: Remove what is at ``recipe.output_dir``, at the start.
        watch: Told how far the work is.

    Returns:
        What was trained, and where it lies.

    Raises:
        InputError: If something given cannot be used (see :mod:`taia.errors` for its kinds).
        StoppedError: If SIGINT or SIGTERM came; a checkpoint is saved.
        RunError: If the loss is not a number, or the output cannot be written.
    """
    watch = watch or (lambda *_: None)
    output = resolved(Path(recipe.output_dir))
    with quiet():
        args = arguments(recipe, output)  # before the model: DeepSpeed shards it as it is loaded
        # One of several processes has the folder, for all.
        with claimed(output) if args.process_index == 0 else nullcontext():
            return _train(recipe, output, args, resume, overwrite, watch)


def _train(
    recipe: Recipe,
    output: Path,
    args: SFTConfig,
    resume: bool,
    overwrite: bool,
    watch: TrainingWatch,
) -> Trained:
    begun, first = time.time(), args.process_index == 0
    checkpoint = None
    sources, notes = [Source.parse(text) for text in recipe.data], []
    place = locate(recipe.model_name_or_path)
    if first and not resume:
        folder.check(output, [place.path, *data_files(recipe)], overwrite=overwrite)
    tokenizer = load_tokenizer(place)
    if recipe.sdft:
        with args.main_process_first(desc="self-distillation"):
            sources, note = self_distilled(recipe, place, tokenizer, watch)
        notes.append(note)
    data = read_data(recipe, sources, tokenizer, watch)
    hashes = {source.name: source.sha256 for source in data.facts.sources}
    if resume:
        before, recorded, checkpoint = folder.unfinished(output)
        folder.check_same(before, recipe, recorded, hashes)
    ready = ready_model(place, recipe, watch)
    stop = StopOnRequest()
    trainer = make_trainer(
        ready,
        tokenizer,
        data,
        recipe,
        args,
        callbacks=[stop],
        penalty=regulariser(recipe, ready.model, tokenizer, watch),
        watch=watch,
    )
    if first and not resume:
        folder.claim(output, recipe, hashes)
    with stop.listening(), _translated(output):
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    step = trainer.state.global_step
    if stop.asked and step < trainer.state.max_steps:
        raise StoppedError(
            f"Stopped on request after step {step} of {trainer.state.max_steps}; it is saved.",
            f"Go on with: taia train --output {output} --resume",
        )
    record = Record.of(
        recipe,
        place,
        data,
        ready,
        trainer.state.log_history,
        [*notes, *ready.notes],
        time.time() - begun,
    )
    watch("Writing the model", 0, None)
    with folder.filling(output, step, first) as finished:
        trainer.save_finished(finished)
        if first:
            load_tokenizer(place).save_pretrained(finished)  # the trainer changed its own
            write_record(finished, record)
    return Trained(output, record)


@contextmanager
def _translated(output: Path) -> Iterator[None]:
    """Say in taia's words what training may fail of."""
    try:
        with translated(output):
            yield
    except Exception as error:
        if out_of_memory(error):
            raise RunError("The memory is full.", _LESS_MEMORY) from error
        raise


def read_data(
    recipe: Recipe,
    sources: list[Source],
    tokenizer: PreTrainedTokenizerBase,
    watch: TrainingWatch,
) -> PreparedData:
    """A recipe's rows, as tokens.

    Raises:
        DataError: If they cannot be used.
    """
    options = DataOptions(
        max_length=recipe.max_length,
        packing=recipe.packing,
        train_on_prompt=recipe.train_on_prompt,
        validation=recipe.held_out,
        max_samples=recipe.max_samples,
        mixing=recipe.mixing,
        format=recipe.format,
        on_bad_row=recipe.on_bad_row,
        seed=recipe.seed,
    )
    watch("Reading the data", 0, None)
    return prepare(
        sources, tokenizer, options, lambda done, total: watch("Reading the data", done, total)
    )


def ready_model(place: Located, recipe: Recipe, watch: TrainingWatch) -> Ready:
    """The base model, loaded and made ready; an adapter's first values are the seed's.

    Raises:
        InputError: If it cannot be loaded, or the recipe cannot be applied to it.
    """
    watch("Loading the model", 0, None)
    set_seed(recipe.seed)
    return make_ready(load(recipe, place), recipe, place.revision)


def make_trainer(
    ready: Ready,
    tokenizer: PreTrainedTokenizerBase,
    data: PreparedData,
    recipe: Recipe,
    args: SFTConfig,
    *,
    callbacks: list[TrainerCallback] | None = None,
    penalty: Regulariser | None = None,
    watch: TrainingWatch,
) -> Trainer:
    """A trainer for a model that is ready, its data, and a recipe."""
    work = f"Training ({recipe.technique})"
    watch(work, 0, None)
    with fsdp_on_cpu():
        return Trainer(
            model=ready.model,
            args=args,
            train_dataset=data.train,
            eval_dataset=data.validation,
            processing_class=tokenizer,
            callbacks=[
                *(callbacks or ()),
                StepTeller(lambda step, steps, _: watch(work, step, steps)),
            ],
            epoch_order=_epoch_order(recipe, data, args.world_size),
            learning_rates=rates(ready.model, ready.anatomy, recipe.learning_rates),
            regulariser=penalty,
            patience=recipe.early_stopping_patience,
        )


def _epoch_order(recipe: Recipe, data: PreparedData, processes: int) -> Callable[[int], list[int]]:
    """Epoch → the order of the rows in it; a mixing schedule extends over all epochs."""
    epochs = None if recipe.mixing == "uniform" else math.ceil(recipe.num_train_epochs)
    if epochs is not None and recipe.max_steps > 0:
        batches = math.ceil(len(data.train) / (recipe.per_device_train_batch_size * processes))
        steps = math.ceil(batches / recipe.gradient_accumulation_steps)
        epochs = math.ceil(recipe.max_steps / steps)
    return lru_cache(maxsize=2)(lambda epoch: data.epoch_order(epoch, epochs))
