"""The hub, where it is out of reach: what is cached is used, and nothing is waited for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from taia.errors import DownloadError

#: Seconds that the hub may take to say anything at all.
_PATIENCE: Final = 3


def check_reachable(names: Iterable[str], mend: str) -> None:
    """Refuse data sets that are neither cached nor to be had now, before anything is loaded.

    Args:
        names: Of data sets on the hub, as ``org/name``.
        mend: What to do without the hub.

    Raises:
        DownloadError: If the hub is out of reach, and there is no trace of one in its caches.
    """
    from huggingface_hub import constants

    absent = [name for name in names if not _is_cached(name)]
    if absent and (constants.HF_HUB_OFFLINE or not _answers(constants.ENDPOINT)):
        raise DownloadError(
            f"The data set {absent[0]} is not in the hub's cache, and the hub is out of reach.",
            mend,
        )


def _is_cached(name: str) -> bool:
    from huggingface_hub import constants

    prepared = os.environ.get("HF_DATASETS_CACHE") or Path(constants.HF_HOME) / "datasets"
    folders = (Path(prepared), Path(constants.HF_HUB_CACHE))
    there = {_plain(path.name.removeprefix("datasets--")) for f in folders for path in _inside(f)}
    return _plain(name) in there


def _inside(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _plain(name: str) -> str:
    """A name without what the caches spell in their own ways."""
    return "".join(filter(str.isalnum, name)).casefold()


@contextmanager
def without_waiting() -> Iterator[None]:
    """Ask the hub once whether it is there; if not, its clients work offline for a while.

    They would try again and again for a minute before they say the same.
    """
    import datasets
    from huggingface_hub import constants

    switches: list[Any] = [constants, datasets.config]
    before = [switch.HF_HUB_OFFLINE for switch in switches]
    if not any(before) and not _answers(constants.ENDPOINT):
        for switch in switches:
            switch.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for switch, was in zip(switches, before, strict=True):
            switch.HF_HUB_OFFLINE = was


def _answers(address: str) -> bool:
    from huggingface_hub import get_session

    try:
        get_session().head(address, timeout=_PATIENCE)
    except Exception:  # the clients' errors have no common class
        return False
    return True
