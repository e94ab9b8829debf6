"""What libraries read when they are imported."""

from __future__ import annotations

import logging
import os


def prepare() -> None:
    """Nothing is sent, no bars are drawn among ours, and forks are no cause for warnings."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("TQDM_DISABLE", "1")
    # PEFT imports bitsandbytes wherever it is installed, which then asks for a faster kernel that
    # only 4-bit weights would use.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
