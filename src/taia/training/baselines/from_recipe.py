"""The paper's baselines, as a recipe asks for them: regularisers, and self-distilled data."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch

from taia.checkpoint.locate import Located
from taia.checkpoint.output.staging import write_file
from taia.errors import DataError
from taia.loading.cache import cache_folder
from taia.training.baselines.regularisers import Regulariser, ewc, fisher, l2
from taia.training.baselines.sdft import SdftOptions, rewrite
from taia.training.callbacks import TrainingWatch
from taia.training.data import DataOptions, PreparedData, Source, prepare, read_source
from taia.training.recipe import Recipe
from taia.training.techniques import load

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def regulariser(
    recipe: Recipe, model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, watch: TrainingWatch
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


def _examples(data: PreparedData) -> Iterator[Mapping[str, torch.Tensor]]:
    for row in data.train:
        ids, counts = torch.tensor([row["input_ids"]]), torch.tensor([row["completion_mask"]])
        yield {"input_ids": ids, "labels": ids.masked_fill(counts == 0, -100)}


def self_distilled(
    recipe: Recipe, place: Located, tokenizer: PreTrainedTokenizerBase, watch: TrainingWatch
) -> tuple[list[Source], str]:
    """The recipe's sources with every answer rewritten by the base model (SDFT).

    They lie in taia's cache, as what the model wrote does: a second run finds both.

    Args:
        recipe: Says which sources, and how many rows of each are enough.
        place: The base model.
        tokenizer: Its tokenizer.
        watch: Told how far the rewriting is.

    Returns:
        The new sources, and what became of the answers, in a sentence.

    Raises:
        DataError: If a source cannot be read, or is plain text, which has no answers.
        OutputError: If the cache cannot be written.
    """
    folder = cache_folder() / "sdft"
    model = load(recipe, place)
    if torch.accelerator.is_available() and recipe.technique != "qlora":
        model.to(torch.accelerator.current_accelerator())  # type: ignore[arg-type]
    sources, kept, total = [], 0, 0
    for text in recipe.data:
        source = Source.parse(text)
        chats = _chats(source, recipe)
        rewritten = rewrite(
            chats,
            model,
            tokenizer,
            SdftOptions(),
            folder / "answers.jsonl",
            lambda done, of: watch("Rewriting the answers", done, of),
        )
        lines = [json.dumps({"messages": row.messages}, ensure_ascii=False) for row in rewritten]
        content = "".join(f"{line}\n" for line in lines)
        file = folder / f"{hashlib.sha256(content.encode()).hexdigest()[:16]}.jsonl"
        write_file(file, content)
        sources.append(Source(str(file), source.weight))
        kept += sum(why is not None for row in rewritten for why in row.kept)
        total += sum(len(row.kept) for row in rewritten)
    return sources, (
        f"The base model rewrote {total - kept} of {total} answers (SDFT); the others stayed as "
        "they were."
    )


def _chats(source: Source, recipe: Recipe) -> list[list[dict[str, str]]]:
    """A source's conversations; no more than the recipe takes of all of them."""
    rows = read_source(source, format=recipe.format, on_bad_row=recipe.on_bad_row).rows
    if not all(row.chat for row in rows):
        raise DataError(
            f"{source.given} is plain text, in which there are no answers to rewrite.",
            "Leave --sdft away, or give conversations.",
        )
    order = list(range(len(rows)))
    random.Random(recipe.seed).shuffle(order)
    return [
        [{"role": turn.role, "content": turn.content} for turn in rows[index].turns]
        for index in sorted(order[: recipe.max_samples])
    ]
