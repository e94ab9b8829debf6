"""Tokens as a ``datasets.Dataset``, one row an example or several packed into one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from taia.training.data.tokens import Tokens

if TYPE_CHECKING:
    from datasets import Dataset

#: Rows per chunk: few enough for 32-bit offsets, whatever their length.
_CHUNK: Final = 10_000


def to_dataset(rows: Sequence[Tokens]) -> Dataset:
    """Columns ``input_ids`` (int32) and ``completion_mask`` (int8), in memory."""
    import pyarrow as pa
    from datasets import Dataset
    from datasets.table import InMemoryTable

    tables = []
    for first in range(0, max(1, len(rows)), _CHUNK):
        chunk = rows[first : first + _CHUNK]
        lengths = [len(row.input_ids) for row in chunk]
        offsets = pa.array(np.cumsum([0, *lengths], dtype=np.int32))
        empty = [np.empty(0, dtype=np.int32)]
        ids = np.concatenate(empty + [row.input_ids for row in chunk])
        mask = np.concatenate([empty[0].astype(np.int8), *(row.counts for row in chunk)])
        columns = {
            "input_ids": pa.ListArray.from_arrays(offsets, pa.array(ids, pa.int32())),
            "completion_mask": pa.ListArray.from_arrays(offsets, pa.array(mask, pa.int8())),
        }
        tables.append(pa.table(columns))
    return Dataset(InMemoryTable(pa.concat_tables(tables)))


def pack(dataset: Dataset, length: int, seed: int | Sequence[int]) -> Dataset:
    """Pack rows into examples of at most ``length`` tokens, best fit decreasing.

    Column ``seq_lengths`` says how long each row in an example is. The packs are shuffled: they are
    made longest row first, a thousand rows at a time.
    """
    from datasets.utils import logging
    from trl.data_utils import pack_dataset

    if not len(dataset):
        return dataset
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        packed = pack_dataset(dataset, length, "bfd")
    finally:
        if shown:
            logging.enable_progress_bar()
    return packed.select(np.random.default_rng(seed).permutation(len(packed)))
