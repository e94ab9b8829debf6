"""lm-evaluation-harness kept off the terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partialmethod
from unittest import mock

from tqdm.std import tqdm

from taia.loading.quiet import quiet


@contextmanager
def quiet_harness() -> Iterator[None]:
    """Keep its log, its bars and those of the libraries it uses off the terminal, for a while."""
    names = ("lm_eval", "httpx", "datasets", "huggingface_hub")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    silent = partialmethod(tqdm.__init__, disable=True)
    with quiet(), mock.patch.object(tqdm, "__init__", silent):
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
