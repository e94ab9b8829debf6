"""Dtypes by the names that commands and recipes call them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taia.errors import InputError

if TYPE_CHECKING:
    import torch


def dtype_called(name: str) -> torch.dtype:
    """The dtype of weights that a command or recipe names.

    Raises:
        InputError: If there is no such dtype.
    """
    import torch

    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in known:
        raise InputError(f"There is no dtype {name!r} here.", f"Choose from {', '.join(known)}.")
    return known[name]
