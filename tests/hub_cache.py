"""A hub cache on disk with several revisions of a model, as huggingface_hub lays it out."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path


def save(hub: Path, repo: str, revisions: Mapping[str, Path]) -> None:
    """Puts folders into a cache.

    Args:
        hub: What ``HF_HUB_CACHE`` names.
        repo: ``org/name``.
        revisions: Branch or tag → the folder that it is.
    """
    home = hub / f"models--{repo.replace('/', '--')}"
    for number, (revision, folder) in enumerate(revisions.items(), 1):
        commit = f"{number:040x}"
        shutil.copytree(folder, home / "snapshots" / commit)
        ref = home / "refs" / revision
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(commit)
