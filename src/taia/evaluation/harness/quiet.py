"""lm-evaluation-harness kept off the terminal."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from taia.loading import quiet


@contextmanager
def quiet_harness() -> Iterator[None]:
    """Keep its log, its bars and those of the libraries it uses off the terminal, for a while."""
    names = ("lm_eval", "httpx", "datasets", "huggingface_hub")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    with quiet(), mock.patch.dict(os.environ, {"TQDM_DISABLE": "1"}):
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
