"""Parameters of other servers: which are refused, and which change nothing and are let through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from taia.serving.refusal import RefusedError

#: They do not touch the answer, so they are not looked at.
HARMLESS: Final = frozenset(
    {
        "metadata",
        "parallel_tool_calls",
        "priority",
        "prompt_cache_key",
        "prompt_cache_retention",
        "request_id",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    }
)

#: They are not supported; each is accepted with these values, with which it does nothing.
NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    "best_of": (1,),
    "frequency_penalty": (0,),
    "function_call": ("none",),
    "functions": ([],),
    "ignore_eos": (False,),
    "include_stop_str_in_output": (False,),
    "length_penalty": (1,),
    "min_p": (0,),
    "min_tokens": (0,),
    "modalities": (["text"],),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "response_format": ({"type": "text"},),
    "skip_special_tokens": (True,),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "use_beam_search": (False,),
}


def without_idle(body: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """The parameters that say something.

    Args:
        body: All of a request's parameters.
        known: The names of those that are supported.

    Raises:
        RefusedError: If one is not supported and would change the answer, or is not known at all.
    """
    left = {}
    for name, value in body.items():
        if value is None or name in HARMLESS:
            continue
        if name in known:
            left[name] = value
        elif name not in NEUTRAL:
            raise RefusedError(
                f"The parameter {name!r} is not known.",
                "Leave it out; docs/serving.md lists what there is.",
                param=name,
                code="unknown_parameter",
            )
        elif not any(_same(value, idle) for idle in NEUTRAL[name]):
            raise RefusedError(
                f"The parameter {name!r} is not supported.",
                f"Leave it out, or give {NEUTRAL[name][0]!r}.",
                param=name,
                code="unsupported_parameter",
            )
    return left


def _same(value: object, other: object) -> bool:
    """Equality as JSON has it, where true is not 1."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)
