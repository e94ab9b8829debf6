"""W_infer = W_base + α · (W_tuned − W_base), on disk.

Where α is 0 or 1 the output's bytes are copied from the base's or the tuned model's files; only
fractions and changes of dtype are computed. The output has the base's files, names, dtypes and
order, and appears whole or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from taia.anatomy import Anatomy
from taia.anatomy.labels import Label, TensorInfo
from taia.checkpoint import companions
from taia.checkpoint.composition import Composition, Progress
from taia.checkpoint.configs import composed_config, may_tie
from taia.checkpoint.folders import holds_adapter
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.kinship import check_pair
from taia.checkpoint.locate import Located, locate
from taia.checkpoint.pairing import Pairing, Vocab, pair_up
from taia.checkpoint.plan import make_plan
from taia.checkpoint.staging import check_output
from taia.checkpoint.steps import Pair
from taia.checkpoint.writing import Options, Work, write
from taia.errors import InputError
from taia.selection import Selection
from taia.selection.alpha import Alpha, Pieces


def compose(
    base: str | Path | None,
    tuned: str | Path,
    output: str | Path | None,
    keep: str | Selection = "taia",
    *,
    merge: bool = False,
    vocab: Vocab | None = None,
    hash_inputs: bool = False,
    dry_run: bool = False,
    overwrite: bool = False,
    strict: bool = False,
    declare: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Composition:
    """Keep a part of an update: write the model or adapter that has only that part.

    Args:
        base: The model before fine-tuning: a folder, one ``.safetensors`` file, or a hub name as
            ``org/name`` or ``org/name@revision``. ``None`` only for an adapter that is filtered by
            its names alone.
        tuned: The model after, the same way; or an adapter.
        output: The folder to write; ``None`` only for a dry run.
        keep: What to keep of the update, a mode (``"taia"``) or a selection.
        merge: For an adapter, write a whole checkpoint.
        vocab: Whose vocabulary to take where base and tuned differ in its size.
        hash_inputs: Record SHA-256 of all input files, which means reading all of them.
        dry_run: Check everything and write nothing.
        overwrite: Replace a model that is there already.
        strict: Refuse what is otherwise a note: two equal models, base and tuned swapped, an
            adapter that says that it was trained on another base.
        declare: Pattern of a tensor's name → component, for names that anatomy does not know.
        progress: Called with the bytes written so far and the bytes there will be.

    Returns:
        What was done, or would be.

    Raises:
        InputError: If something given cannot be used (see :mod:`taia.errors` for its kinds).
        RunError: If the output cannot be written or an input cannot be fetched.
    """
    selection = Selection.parse(keep) if isinstance(keep, str) else keep
    if vocab not in (None, "base", "tuned"):
        raise InputError(f"vocab is {vocab!r}.", "Use 'base' or 'tuned'.")
    if output is None and not dry_run:
        raise InputError("No output was given.", "Say where to write, or make it a dry run.")
    target = None if output is None else Path(output)
    there = locate(tuned)
    here = None if base is None else locate(base)
    if holds_adapter(there.path):
        from taia.checkpoint.adapters.compose import compose_adapter

        return compose_adapter(
            here,
            there,
            target,
            selection,
            merge=merge,
            hash_inputs=hash_inputs,
            dry_run=dry_run,
            overwrite=overwrite,
            strict=strict,
            declare=declare,
            progress=progress,
        )
    if merge:
        raise InputError(
            f"{there.given!r} is a whole checkpoint: there is no adapter to merge.",
            "Leave --merge away, or give the adapter.",
        )
    if here is None:
        raise InputError("No base was given.", "Give the model that tuned was trained from.")
    if target is not None:
        target = check_output(target, [here.path, there.path], overwrite)
    options = Options(vocab, hash_inputs, declare)
    work = _prepare(here, there, target, selection, options, strict)
    if dry_run or target is None:
        return work.composition(written=False)
    write(work, target, overwrite, progress)
    return work.composition(written=True)


def _prepare(
    here: Located,
    there: Located,
    output: Path | None,
    selection: Selection,
    options: Options,
    strict: bool,
) -> Work:
    base, tuned = Checkpoint.open(here.path), Checkpoint.open(there.path)
    pairing = pair_up(base, tuned, options.vocab, options.declare)
    labels: Mapping[str, Label] = Anatomy.of_tensors(
        (TensorInfo(pair.name, pair.shape, pair.dtype) for pair in pairing.pairs.values()),
        base.config,
        options.declare,
    )
    alphas = selection.alphas(labels)
    notes = [*check_pair((here, base), (there, tuned), strict), *pairing.notes]
    pairs = dict(pairing.pairs)
    untied = _untie(pairs, labels, alphas, pairing, base.config)
    plan = make_plan(base, pairs, alphas)
    kept = {name for name, alpha in plan.alphas.items() if alpha != 0.0}
    tokens_tuned = options.vocab == "tuned" or (options.vocab is None and bool(kept))
    if tokens_tuned and not companions.has_tokenizer(tuned.folder):
        if companions.has_tokenizer(base.folder):
            notes.append("The tuned model has no tokenizer; the output has the base's.")
        tokens_tuned = False
    config = None
    if base.config is not None:
        config, more = composed_config(
            base.config,
            tuned.config,
            attention_tuned=any(labels[name].component == "attention" for name in kept),
            tokens_tuned=tokens_tuned,
            rows=_rows(pairing, options.vocab),
            untied=untied,
        )
        notes += more
    files, more = companions.companions(base.folder, tuned.folder, tokens_tuned)
    notes += more
    return Work(
        here,
        there,
        base,
        tuned,
        output,
        selection,
        options,
        plan,
        labels,
        config,
        files,
        tuple(notes),
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
