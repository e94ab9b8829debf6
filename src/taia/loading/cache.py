"""Where taia keeps what it fetched or made, and could make again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """The folder: ``TAIA_CACHE``, else ``taia`` in ``XDG_CACHE_HOME`` or ``~/.cache``."""
    if own := os.environ.get("TAIA_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "taia"
