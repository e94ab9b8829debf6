"""Two whole checkpoints: from which of them each byte comes, and what is calculated."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from functools import partial
from typing import Final

from taia.anatomy.labels import Label
from taia.checkpoint.composition import match_table, row_of
from taia.checkpoint.configs import composed_config, may_tie
from taia.checkpoint.formula import Formula, TensorFormula
from taia.checkpoint.header import BITS
from taia.checkpoint.heads import Vocab, rows_of
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.output import tokenizer_files
from taia.checkpoint.pairing import Pairing, pair_up
from taia.checkpoint.plan import OutputPlan, Tensor, config_file, like_base
from taia.checkpoint.sources import FLOATS, Sources
from taia.checkpoint.steps import TensorPair
from taia.errors import SelectionError
from taia.selection import Selection
from taia.selection.alpha import Alpha, Pieces

_EIGHT_BIT: Final = "8-bit weights mean nothing without their scales"
_WHOLE_NUMBERS: Final = "whole numbers have nothing between them"


def plan_checkpoints(
    base: Checkpoint,
    tuned: Checkpoint,
    selection: Selection,
    *,
    vocab: Vocab | None = None,
    declare: Mapping[str, str] | None = None,
    formula: Formula | None = None,
) -> OutputPlan:
    """Plan the composition of two checkpoints, laid out like the base.

    Args:
        base: The model before fine-tuning.
        tuned: The model after.
        selection: What to keep of the difference.
        vocab: Whose vocabulary to take where their sizes differ.
        declare: Pattern of a tensor's name → component, for names that anatomy does not know.
        formula: The method that makes of the difference what is kept, ``None`` for all of it.

    Raises:
        AnatomyError: If a tensor has no label.
        MethodError: If the method lacks what it needs of a tensor.
        MismatchError: If the two do not belong together.
        SelectionError: If the selection matches nothing, or takes a part of what has none.
    """
    pairing = pair_up(base, tuned, vocab, declare)
    pairs, labels = dict(pairing.pairs), pairing.labels
    alphas = selection.alphas(labels)
    work: Mapping[str, TensorFormula] = {}
    if formula is not None:
        formula = formula.fitted(labels)
        alphas = formula.weighed(alphas, labels)
        work = _work(pairs, labels, alphas, formula, base)
    untied = _untie(pairs, labels, alphas, pairing, base.config, drawn=_is_drawn(formula))
    alphas = _settled(pairs, alphas, work)
    kept = {name for name, alpha in alphas.items() if alpha != 0.0}
    work = {name: one for name, one in work.items() if name in kept}
    notes = list(pairing.notes)
    if formula is not None:
        notes.append(formula.note(labels, alphas))
    tokens_tuned = vocab == "tuned" or (vocab is None and bool(kept))
    if tokens_tuned and not tokenizer_files.has_tokenizer(tuned.folder):
        if tokenizer_files.has_tokenizer(base.folder):
            notes.append("The tuned model has no tokenizer; the output has the base's.")
        tokens_tuned = False
    config, more = composed_config(
        base.config,
        tuned.config,
        attention_tuned=any(labels[name].component == "attention" for name in kept),
        tokens_tuned=tokens_tuned,
        rows=rows_of(pairing.resized, vocab),
        untied=untied,
    )
    notes += more
    beside, more = tokenizer_files.beside(base.folder, tuned.folder, tokens_tuned)
    tensors = {
        name: Tensor.of_pair(pair, alphas[name])
        if name not in work
        else Tensor.made(
            name, pair.dtype, pair.shape, partial(work[name].chunks, pair, alphas[name])
        )
        for name, pair in pairs.items()
    }
    return OutputPlan(
        kind="checkpoint",
        weights=like_base(base, tensors),
        beside=beside,
        config=config_file(base, config),
        rows=match_table(
            row_of(
                labels[name].component,
                pair.dtype,
                pair.shape,
                None if name in work else alphas[name],
            )
            for name, pair in pairs.items()
        ),
        alphas=alphas,
        notes=(*notes, *more),
    )


def _untie(
    pairs: dict[str, TensorPair],
    labels: Mapping[str, Label],
    alphas: Mapping[str, Alpha],
    pairing: Pairing,
    config: Mapping[str, object] | None,
    *,
    drawn: bool,
) -> bool:
    """Whether the output's head differs from its embedding where the base's config ties them.

    It does where each has a draw of its own of what is random (``drawn``). Where only the tuned
    model has a head and neither it nor the embedding is kept, both are the base's embedding: the
    head is taken out of ``pairs`` and stays tied.
    """
    if pairing.untied is not None:
        head, embedding = pairing.untied
        if alphas[head] == 0.0 and alphas[embedding] == 0.0:
            del pairs[head]
            return False
        return True
    if not may_tie(config):
        return False
    heads = [name for name, label in labels.items() if label.component == "head"]
    embeddings = [name for name, label in labels.items() if label.component == "embedding"]
    return any(
        labels[head].tensor.shape == labels[embedding].tensor.shape
        and not _alike(alphas[head], alphas[embedding], drawn)
        for head in heads
        for embedding in embeddings
    )


def _alike(one: Alpha, other: Alpha, drawn: bool) -> bool:
    return not isinstance(one, Pieces) and one == other and (one == 0.0 or not drawn)


def _is_drawn(formula: Formula | None) -> bool:
    return formula is not None and "seed" in formula.applied.values


def _work(
    pairs: Mapping[str, TensorPair],
    labels: Mapping[str, Label],
    alphas: Mapping[str, Alpha],
    formula: Formula,
    base: Checkpoint,
) -> dict[str, TensorFormula]:
    """The tensors that a method's formula is calculated for."""
    found = {}
    for name, pair in pairs.items():
        if alphas[name] == 0.0 or pair.tuned is None or not math.prod(pair.shape):
            continue
        label = labels[name]
        if (one := formula.on(label, base.inputs_first(label))) is not None:
            found[name] = one
    return found


def _settled(
    pairs: Mapping[str, TensorPair], alphas: Mapping[str, Alpha], work: Collection[str]
) -> dict[str, Alpha]:
    """Every α as it will be applied: 0 where the tuned model has nothing to give."""
    settled: dict[str, Alpha] = {}
    with Sources() as sources:
        for name, pair in pairs.items():
            alpha = alphas[name]
            if pair.tuned is None or (
                not _can(pair, alpha, name in work) and sources.same(pair.base, pair.tuned)
            ):
                alpha = 0.0
            elif not _can(pair, alpha, name in work):
                why = _EIGHT_BIT if pair.dtype.startswith("F") else _WHOLE_NUMBERS
                raise SelectionError(
                    f"Tensor {name!r} is {pair.dtype} and cannot be taken in part: {why}.",
                    "Select it whole or not at all, or dequantise both models first.",
                )
            settled[name] = alpha
    return settled


def _can(pair: TensorPair, alpha: Alpha, calculated: bool) -> bool:
    """Whether a tensor's dtype allows its α, or that it is calculated with."""
    if pair.dtype in FLOATS or (alpha in (0.0, 1.0) and not calculated):
        return True
    if calculated or not isinstance(alpha, Pieces) or BITS[pair.dtype] % 8:
        return False
    return all(value in (0.0, 1.0) for _, _, value in alpha.pieces)
