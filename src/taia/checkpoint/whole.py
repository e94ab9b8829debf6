"""Two whole checkpoints: from which of them each tensor of the output comes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from taia.anatomy.labels import Label, TensorInfo
from taia.checkpoint.composition import match_table, row_of
from taia.checkpoint.configs import composed_config, may_tie
from taia.checkpoint.header import BITS
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.labels import Labeller
from taia.checkpoint.output import tokenizer_files
from taia.checkpoint.pairing import Pairing, Vocab, pair_up
from taia.checkpoint.plan import Plan, Tensor, config_file, like_base
from taia.checkpoint.sources import FLOATS, Sources
from taia.checkpoint.steps import Pair
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
) -> Plan:
    """Plan the composition of two checkpoints, laid out like the base.

    Args:
        base: The model before fine-tuning.
        tuned: The model after.
        selection: What to keep of the difference.
        vocab: Whose vocabulary to take where their sizes differ.
        declare: Pattern of a tensor's name → component, for names that anatomy does not know.

    Raises:
        AnatomyError: If a tensor has no label.
        MismatchError: If the two do not belong together.
        SelectionError: If the selection matches nothing, or takes a part of what has none.
    """
    labeller = Labeller(declare)
    pairing = pair_up(base, tuned, vocab, labeller)
    pairs = dict(pairing.pairs)
    labels = labeller((TensorInfo(p.name, p.shape, p.dtype) for p in pairs.values()), base.config)
    alphas = selection.alphas(labels)
    untied = _untie(pairs, labels, alphas, pairing, base.config)
    alphas = _settled(pairs, alphas)
    kept = {name for name, alpha in alphas.items() if alpha != 0.0}
    notes = list(pairing.notes)
    tokens_tuned = vocab == "tuned" or (vocab is None and bool(kept))
    if tokens_tuned and not tokenizer_files.has_tokenizer(tuned.folder):
        if tokenizer_files.has_tokenizer(base.folder):
            notes.append("The tuned model has no tokenizer; the output has the base's.")
        tokens_tuned = False
    config = None
    if base.config is not None:
        config, more = composed_config(
            base.config,
            tuned.config,
            attention_tuned=any(labels[name].component == "attention" for name in kept),
            tokens_tuned=tokens_tuned,
            rows=_rows(pairing, vocab),
            untied=untied,
        )
        notes += more
    beside, more = tokenizer_files.beside(base.folder, tuned.folder, tokens_tuned)
    tensors = {name: Tensor.of_pair(pair, alphas[name]) for name, pair in pairs.items()}
    return Plan(
        kind="checkpoint",
        weights=like_base(base, tensors),
        beside=beside,
        config=config_file(base, config),
        rows=match_table(
            row_of(labels[name].component, pair.dtype, pair.shape, alphas[name])
            for name, pair in pairs.items()
        ),
        alphas=alphas,
        notes=(*notes, *more),
    )


def _rows(pairing: Pairing, vocab: Vocab | None) -> int | None:
    if pairing.resized is None:
        return None
    return pairing.resized[0] if vocab == "base" else pairing.resized[1]


def _untie(
    pairs: dict[str, Pair],
    labels: Mapping[str, Label],
    alphas: Mapping[str, Alpha],
    pairing: Pairing,
    config: Mapping[str, object] | None,
) -> bool:
    """Whether the output's head differs from its embedding where the base's config ties them.

    Where only the tuned model has a head and neither it nor the embedding is kept, both are the
    base's embedding: the head is taken out of ``pairs`` and stays tied.
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
        and not _alike(alphas[head], alphas[embedding])
        for head in heads
        for embedding in embeddings
    )


def _alike(one: Alpha, other: Alpha) -> bool:
    return not isinstance(one, Pieces) and one == other


def _settled(pairs: Mapping[str, Pair], alphas: Mapping[str, Alpha]) -> dict[str, Alpha]:
    """Every α as it will be applied: 0 where the tuned model has nothing to give."""
    settled: dict[str, Alpha] = {}
    with Sources() as sources:
        for name, pair in pairs.items():
            alpha = alphas[name]
            if pair.tuned is None or (
                not _can(pair, alpha) and sources.same(pair.base, pair.tuned)
            ):
                alpha = 0.0
            elif not _can(pair, alpha):
                why = _EIGHT_BIT if pair.dtype.startswith("F") else _WHOLE_NUMBERS
                raise SelectionError(
                    f"Tensor {name!r} is {pair.dtype} and cannot be taken in part: {why}.",
                    "Select it whole or not at all, or dequantise both models first.",
                )
            settled[name] = alpha
    return settled


def _can(pair: Pair, alpha: Alpha) -> bool:
    """Whether a tensor's dtype allows its α."""
    if pair.dtype in FLOATS or alpha in (0.0, 1.0):
        return True
    if not isinstance(alpha, Pieces) or BITS[pair.dtype] % 8:
        return False
    return all(value in (0.0, 1.0) for _, _, value in alpha.pieces)
