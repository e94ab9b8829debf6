"""MoLoRA made known to PEFT."""

from __future__ import annotations

from typing import Any

from taia.errors import AdapterError
from taia.molora.config import PEFT_TYPE, MoloraConfig
from taia.molora.model import MoloraModel


def register() -> None:
    """Enters MoLoRA into PEFT's tables. Doing so again changes nothing.

    PEFT's own ``register_peft_method`` takes only names of its closed list of methods. Its tables
    are plain dictionaries, in which a string serves as well as a member of that list.

    Raises:
        AdapterError: If PEFT no longer has these tables, or has a MoLoRA of its own.
    """
    try:
        from peft.mapping import (
            PEFT_TYPE_TO_CONFIG_MAPPING,
            PEFT_TYPE_TO_PREFIX_MAPPING,
            PEFT_TYPE_TO_TUNER_MAPPING,
        )
    except ImportError as error:
        raise AdapterError(
            f"PEFT has changed: {error}", "use taia with a version of peft that it was tested with"
        ) from error
    tables: tuple[tuple[dict[Any, Any], object], ...] = (
        (PEFT_TYPE_TO_CONFIG_MAPPING, MoloraConfig),
        (PEFT_TYPE_TO_TUNER_MAPPING, MoloraModel),
        (PEFT_TYPE_TO_PREFIX_MAPPING, MoloraModel.prefix),
    )
    for table, ours in tables:
        if table.setdefault(PEFT_TYPE, ours) is not ours:
            raise AdapterError(
                f"PEFT already has a method called {PEFT_TYPE}: {table[PEFT_TYPE]!r}",
                "import taia.molora only, or use a version of peft without it",
            )
