"""What a recipe would do, before it does it: one example, and memory, time and steps."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import torch

from taia.checkpoint.locate import Located, locate
from taia.errors import CheckpointError, blaming
from taia.loading.models import load_tokenizer
from taia.loading.quiet import quiet
from taia.training.callbacks import TrainingWatch
from taia.training.data import PreparedData, Source
from taia.training.data import preview as one_example
from taia.training.forecast.estimate import PlannedRun, RunNeeds, estimate
from taia.training.forecast.shape import shape_of
from taia.training.recipe import Recipe, Sharding
from taia.training.run import read_data
from taia.training.techniques import Ready, make_ready, mixed_precision, weights_dtype
from taia.training.trainable import component

if TYPE_CHECKING:
    from rich.text import Text

#: Of what a matrix product achieves, how much a training step does.
_ACHIEVED: Final = 0.5


@dataclass(frozen=True)
class Forecast:
    """What a run would take.

    Attributes:
        recipe: The run.
        parameters: The model's numbers per component.
        trained: Those that train, per component of what they change; an adapter's are its own.
        rows: Rows of an epoch, packed ones together.
        tokens: Tokens of an epoch, and of these how many the loss counts.
        longest: Tokens of the longest row, which decides the memory.
        estimate: Bytes for each process, steps, and seconds.
        notes: What a careful reader would want to know.
    """

    recipe: Recipe
    parameters: Mapping[str, int]
    trained: Mapping[str, int]
    rows: int
    tokens: tuple[int, int]
    longest: int
    estimate: RunNeeds
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "parameters": dict(self.parameters),
            "trained": dict(self.trained),
            "rows": self.rows,
            "tokens": self.tokens[0],
            "answer_tokens": self.tokens[1],
            "longest": self.longest,
            "estimate": asdict(self.estimate) | {"total": self.estimate.total},
            "notes": list(self.notes),
        }


def preview(recipe: Recipe, *, marks: bool) -> Text:
    """One example as the model sees it; what the loss does not count is dim.

    Args:
        recipe: Says which model and data.
        marks: Put ⟦ and ⟧ around what counts, for output without colour.

    Raises:
        InputError: If the model or the data cannot be used.
    """
    with quiet():
        tokenizer = load_tokenizer(locate(recipe.model_name_or_path))
        few = replace(recipe, max_samples=1, packing=False, validation=None, mixing="uniform")
        data = read_data(few, _sources(recipe), tokenizer, lambda *_: None)
    return one_example(data, tokenizer, marks=marks)


def forecast(recipe: Recipe, sharding: Sharding, processes: int, watch: TrainingWatch) -> Forecast:
    """What a run would take: the data are read, the model is built without its weights.

    Args:
        recipe: The run.
        sharding: How several processes would share the work.
        processes: How many.
        watch: Told how far reading the data is.

    Raises:
        InputError: If the model, the data or the recipe cannot be used.
    """
    with quiet():
        place = locate(recipe.model_name_or_path)
        data = read_data(recipe, _sources(recipe), load_tokenizer(place), watch)
        watch("Measuring this machine", 0, None)
        ready, config = _without_weights(place, recipe)
    parameters, trained = _counts(ready)
    longest = max(map(len, data.train["input_ids"]))
    mixed = mixed_precision(recipe)
    weights = weights_dtype(recipe).itemsize
    run = PlannedRun(
        technique=recipe.technique,
        batch=recipe.per_device_train_batch_size,
        length=longest,
        rows=len(data.train),
        epochs=_epochs(recipe, data, processes),
        accumulation=recipe.gradient_accumulation_steps,
        processes=processes,
        sharding=sharding,
        checkpointing=recipe.activation_checkpointing,
        frozen_bytes=weights,
        # PEFT keeps adapters in float32, whatever the base is in.
        trained_bytes=4 if recipe.is_adapter else weights,
        compute_bytes=2 if mixed else weights,
        optimiser="adamw_8bit" if "8bit" in recipe.optim else "adamw",
        adapter_dropout=recipe.is_adapter and recipe.lora_dropout > 0,
        head_share=data.facts.answer_tokens / data.facts.tokens if _on_cpu() else 1.0,
    )
    shape = shape_of(config)
    told = estimate(parameters, trained, shape, run, flops_per_second=_flops(shape.hidden, mixed))
    # Rows are padded to the longest of their batch, not of all: the data tell better.
    share = data.facts.tokens / max(1, len(data.train) * longest)
    seconds = None if told.seconds is None else told.seconds * share
    told = replace(
        told, tokens=round(told.tokens * share), flops=round(told.flops * share), seconds=seconds
    )
    return Forecast(
        recipe,
        parameters,
        trained,
        len(data.train),
        (data.facts.tokens, data.facts.answer_tokens),
        longest,
        told,
        ready.notes,
    )


def _sources(recipe: Recipe) -> list[Source]:
    return [Source.parse(text) for text in recipe.data]


def _without_weights(place: Located, recipe: Recipe) -> tuple[Ready, Any]:
    from transformers import AutoConfig, AutoModelForCausalLM

    with blaming(
        CheckpointError,
        f"{place.given} has no config of a causal language model that transformers reads",
        "Give a folder or hub name with config.json, tokenizer and safetensors weights.",
    ):
        config = AutoConfig.from_pretrained(place.path, local_files_only=True)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    with torch.device("meta"):
        lora = replace(recipe, technique="lora") if recipe.technique == "qlora" else recipe
        return make_ready(model, lora), config


def _counts(ready: Ready) -> tuple[dict[str, int], dict[str, int]]:
    """Numbers per component: the model's own, and those that train."""
    parameters: Counter[str] = Counter()
    trained: Counter[str] = Counter()
    for name, parameter in ready.model.named_parameters():
        part, own = component(name, ready.anatomy)
        if own:
            parameters[part] += parameter.numel()
        if parameter.requires_grad:
            trained[part] += parameter.numel()
    return dict(parameters), dict(trained)


def _epochs(recipe: Recipe, data: PreparedData, processes: int) -> float:
    if recipe.max_steps < 1:
        return recipe.num_train_epochs
    rows = recipe.max_steps * recipe.per_device_train_batch_size * processes
    return rows * recipe.gradient_accumulation_steps / len(data.train)


def _on_cpu() -> bool:
    return not torch.accelerator.is_available()


def _flops(hidden: int, mixed: bool) -> float:
    """Operations a second that training will achieve here, judged by one matrix product."""
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    dtype = torch.bfloat16 if mixed else torch.float32
    left = torch.randn(512, hidden, device=device, dtype=dtype)
    right = torch.randn(hidden, 4 * hidden, device=device, dtype=dtype)
    best = math.inf
    for _ in range(8):
        begun = time.perf_counter()
        (left @ right).flatten()[0].item()  # reading a number waits for the device
        best = min(best, time.perf_counter() - begun)
    return _ACHIEVED * 2 * 512 * hidden * 4 * hidden / best
