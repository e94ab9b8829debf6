"""From sources to what a trainer takes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Final

import numpy as np

from taia.errors import DataError
from taia.training.data.facts import Facts, SourceFacts
from taia.training.data.holdout import hold_out, without
from taia.training.data.mixing import annealed_weights, draw, mixed_weights, run_order
from taia.training.data.options import DataOptions
from taia.training.data.prepared import PreparedData
from taia.training.data.reading import read_source
from taia.training.data.row import Row, Rows
from taia.training.data.source import Source
from taia.training.data.stream import Counter, RowProgress, Stream
from taia.training.data.tables import pack, to_dataset
from taia.training.data.tokens import RowEncoder, Tokens

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

#: The seed's other uses, told apart.
_DRAW: Final = 0xD7A3
_SHUFFLE: Final = 0x5A0F
_PACKS: Final = 0x9AC5


def prepare(
    sources: Sequence[Source],
    tokenizer: PreTrainedTokenizerBase,
    options: DataOptions | None = None,
    progress: RowProgress | None = None,
) -> PreparedData:
    """Read, hold out, draw, tokenise, order and pack.

    The same sources, options, tokenizer and library versions give the same data.

    Args:
        sources: One or more.
        tokenizer: A fast one. Its chat template renders conversations, if it has one.
        options: How.
        progress: Told how many rows of how many are tokenised.

    Returns:
        The data.

    Raises:
        DataError: If a source cannot be read or a row cannot be used (and bad rows stop), the
            answers cannot be found in what the chat template renders, or no row is left.
        DownloadError: If a hub name cannot be fetched.
    """
    options = options or DataOptions()
    if not sources:
        raise DataError("There is no data to train on.", "Give some with --data.")
    given = mixed_weights([source.weight for source in sources], options.mixing)
    read = [_read(source, options) for source in sources]
    held_rows, kept, held = _hold_out(read, options)
    encoder = RowEncoder(
        tokenizer,
        max_length=options.max_length,
        truncation=options.truncation,
        train_on_prompt=options.train_on_prompt,
    )
    sizes = list(map(len, kept))
    want = draw(sizes, _weights(given, sizes, options), options.max_samples)
    counter = Counter(sum(want) + sum(map(len, held)), progress)

    drawn = []
    facts = []
    for number, (source, rows) in enumerate(zip(sources, read, strict=True)):
        shuffled = np.random.default_rng((options.seed, _DRAW, number)).permutation(kept[number])
        stream = Stream(rows, encoder, options.on_bad_row, counter)
        drawn.append(stream.take(shuffled.tolist(), want[number]))
        known = SourceFacts.of(rows, source.weight).refused(stream.bad, stream.dropped)
        facts.append(known.held(len(rows.rows) - sizes[number]))
    # Rows that fell away may leave too few of a source: the shares then hold for fewer in all.
    left = list(map(len, drawn))
    counts = draw(left, _weights(given, left, options), options.max_samples)
    drawn = [tokens[:count] for tokens, count in zip(drawn, counts, strict=True)]
    if not any(drawn):
        raise DataError(
            f"No row is left to train on: {sum(each.dropped for each in facts)} have no answer "
            f"within {options.max_length} tokens, {sum(each.bad for each in facts)} are bad.",
            "Give a longer --max-length, or other data.",
        )
    facts = [each.counted(tokens) for each, tokens in zip(facts, drawn, strict=True)]
    validation, validated = _validation(held_rows, held, encoder, options, counter)
    train, lanes = _train(drawn, options)
    return PreparedData(
        train,
        validation,
        Facts(
            tuple(facts),
            validated,
            rows=sum(each.used for each in facts),
            examples=len(train),
            tokens=sum(each.tokens for each in facts),
            answer_tokens=sum(each.answer_tokens for each in facts),
        ),
        options,
        lanes,
    )


def _read(source: Source, options: DataOptions) -> Rows:
    return read_source(source, on_bad_row=options.on_bad_row, format=options.format)


def _weights(
    given: list[float] | None, sizes: Sequence[int], options: DataOptions
) -> list[float] | None:
    return annealed_weights(sizes) if options.mixing == "annealed" and not given else given


def _hold_out(
    read: Sequence[Rows], options: DataOptions
) -> tuple[Sequence[Rows], list[list[int]], list[list[int]]]:
    """The sources of validation rows; which rows of each source are kept; which are held out."""
    rows: list[Sequence[Row]] = [each.rows for each in read]
    if options.validation is None:
        return (), [list(range(len(each))) for each in rows], []
    if not isinstance(options.validation, str):
        kept, held = hold_out(rows, options.validation, options.seed)
        return read, kept, held
    apart = _read(Source(options.validation), options)
    others = set(apart.rows)
    return (apart,), [without(each, others) for each in rows], [list(range(len(apart.rows)))]


def _validation(
    sources: Sequence[Rows],
    held: Sequence[Sequence[int]],
    encoder: RowEncoder,
    options: DataOptions,
    counter: Counter,
) -> tuple[Dataset | None, tuple[SourceFacts, ...]]:
    tokens: list[Tokens] = []
    facts = []
    for rows, indices in zip(sources, held, strict=True):
        stream = Stream(rows, encoder, options.on_bad_row, counter)
        taken = stream.take(indices, len(indices))
        known = SourceFacts.of(rows, None).refused(stream.bad, stream.dropped)
        facts.append(known.held(len(indices)).counted(taken))
        tokens += taken
    if held and not tokens:
        raise DataError(
            f"No row is left to validate on within {options.max_length} tokens.",
            "Give a longer --max-length, or hold out more.",
        )
    return (to_dataset(tokens) if tokens else None), tuple(facts)


def _train(
    drawn: Sequence[list[Tokens]], options: DataOptions
) -> tuple[Dataset, tuple[np.ndarray, ...]]:
    """The rows of all sources in order, and where each lane's are."""
    from datasets import concatenate_datasets

    groups = [drawn] if options.mixing == "uniform" else [drawn[:1], drawn[1:]]
    lanes = []
    for number, group in enumerate(groups):
        rows = list(chain.from_iterable(group))
        shuffled = np.random.default_rng((options.seed, _SHUFFLE, number)).permutation(len(rows))
        lane = to_dataset([rows[index] for index in shuffled])
        if options.packing:
            lane = pack(lane, options.max_length, (options.seed, _PACKS, number))
        lanes.append(lane)
    sizes = list(map(len, lanes))
    order = run_order(sizes, options.mixing, [0], options.seed)
    places = np.argsort(order)
    full = [lane for lane in lanes if len(lane)]
    ends = np.cumsum(sizes)
    return (
        concatenate_datasets(full).select(order),
        tuple(places[end - size : end] for size, end in zip(sizes, ends, strict=True)),
    )
