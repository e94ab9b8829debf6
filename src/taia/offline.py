"""The hub, where it is out of reach: what is cached is used, and nothing is waited for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

#: Seconds that the hub may take to say anything at all.
_PATIENCE: Final = 3


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
