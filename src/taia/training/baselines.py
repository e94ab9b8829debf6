"""The paper's baselines, as a recipe asks for them: regularisers, and self-distilled data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeAlias

import torch

from taia.training.data import DataOptions, Prepared, Source, prepare
from taia.training.recipe import Recipe
from taia.training.regularisers import Regulariser, ewc, fisher, l2

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Told of a piece of work: its name, how much is done, how much there is.
Watch: TypeAlias = Callable[[str, int, int | None], None]


def regulariser(
    recipe: Recipe, model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, watch: Watch
) -> Regulariser | None:
    """What pulls the weights towards the base, ``None`` where nothing does.

    Args:
        recipe: Says which, how strongly, and for EWC on what data.
        model: Ready to train, not trained yet.
        tokenizer: Its tokenizer.
        watch: Told how far measuring the Fisher information is.

    Raises:
        DataError: If the Fisher information's data cannot be used.
    """
    if recipe.regulariser == "none":
        return None
    if recipe.regulariser == "l2":
        return l2(model, recipe.regulariser_strength)
    options = DataOptions(
        max_length=recipe.max_length, max_samples=recipe.fisher_samples, seed=recipe.seed
    )
    data = prepare([Source.parse(text) for text in recipe.fisher_data], tokenizer, options)
    importance = fisher(
        model,
        _examples(data),
        lambda done: watch("Measuring the Fisher information", done, len(data.train)),
    )
    return ewc(model, recipe.regulariser_strength, importance)


def _examples(data: Prepared) -> Iterator[Mapping[str, torch.Tensor]]:
    for row in data.train:
        ids, counts = torch.tensor([row["input_ids"]]), torch.tensor([row["completion_mask"]])
        yield {"input_ids": ids, "labels": ids.masked_fill(counts == 0, -100)}
