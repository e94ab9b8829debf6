"""Flags that do nothing as the rest of a command stands: refused, lest somebody relies on them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from taia.errors import InputError

_Values: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Idle:
    """When which flags do nothing.

    Attributes:
        flags: The flags, and arguments in capitals.
        here: Whether it is so, by the values of all parameters.
        why: Ends the sentence "--flag has no effect …".
        mend: What to do instead.
    """

    flags: tuple[str, ...]
    here: Callable[[_Values], bool]
    why: str
    mend: str


def _lacks(partner: str) -> Callable[[_Values], bool]:
    return lambda values: not values[partner]


def _has(partner: str) -> Callable[[_Values], bool]:
    return lambda values: bool(values[partner])


def _is(name: str, value: str) -> Callable[[_Values], bool]:
    return lambda values: values[name] == value


#: Command → what does nothing there. What depends on files is told by who reads them.
IDLE: Final[Mapping[str, tuple[Idle, ...]]] = {
    "compose": (
        Idle(
            ("--hash",),
            _has("dry_run"),
            "in a dry run, which writes no record",
            "Leave one of the two out.",
        ),
        Idle(
            ("--overwrite",),
            lambda values: bool(values["dry_run"]) and values["output"] is None,
            "without --output",
            "Leave it out, or give --output.",
        ),
    ),
    "report": (
        Idle(
            ("--overwrite",),
            lambda values: values["output"] is None and values["form"] != "html",
            "on text that goes to stdout",
            "Leave it out, or give --output.",
        ),
    ),
    "serve": (
        Idle(
            ("FLAGS", "--output", "--print"),
            _is("engine", "taia"),
            "without --engine vllm",
            "Leave it out, or add --engine vllm.",
        ),
        Idle(
            ("--device", "--max-tokens", "--max-rows", "--max-waiting", "--timeout", "--grace"),
            _is("engine", "vllm"),
            "with --engine vllm, which has settings of its own",
            "Leave it out; give vLLM its own flags after --.",
        ),
        Idle(
            ("--overwrite",),
            _lacks("output"),
            "without --output",
            "Leave it out, or add --engine vllm and --output.",
        ),
        Idle(
            ("--api-key",),
            lambda values: values["engine"] == "vllm" and values["print_only"],
            "with --print: a key stands in no command line",
            "Leave it out; vLLM reads VLLM_API_KEY.",
        ),
    ),
    "eval": (
        Idle(
            ("--device", "--load-in-4bit", "--server"),
            _is("engine", "vllm"),
            "with --engine vllm, which is started by itself and has settings of its own",
            "Leave it out; give vLLM its own flags with --vllm-args.",
        ),
        Idle(
            ("--vllm-args",),
            _is("engine", "transformers"),
            "without --engine vllm",
            "Leave it out, or add --engine vllm.",
        ),
        Idle(
            ("--engine",),
            _has("server"),
            "with --server, which computes",
            "Leave one of the two out.",
        ),
        Idle(
            ("--device", "--dtype", "--load-in-4bit", "--declare", "TUNED"),
            _has("server"),
            "with --server, which has the weights",
            "Leave it out, or leave --server out.",
        ),
        Idle(
            ("--model-of",),
            _lacks("server"),
            "without --server",
            "Leave it out, or give the server's address.",
        ),
        Idle(
            ("--judge-model",),
            _lacks("judge"),
            "without --judge",
            "Leave it out, or give the judge's address.",
        ),
    ),
    "train": (
        Idle(
            ("--accelerate", "--processes", "--dry-run", "--json", "--overwrite"),
            _has("preview"),
            "with --preview, which shows one example",
            "Leave it out, or leave --preview out.",
        ),
        Idle(
            ("--processes",),
            lambda values: not values["accelerate"] and not values["dry_run"],
            "without --accelerate",
            "Add --accelerate ddp, fsdp or zero3, or leave it out.",
        ),
        Idle(
            ("--overwrite",),
            _has("resume"),
            "with --resume: nothing of the run is removed",
            "Leave one of the two out.",
        ),
        Idle(
            ("--overwrite",),
            lambda values: bool(values["dry_run"]) and not values["output_dir"],
            "in a dry run without --output",
            "Leave it out, or give --output.",
        ),
    ),
}


def refuse_idle(rules: Collection[Idle], typed: Collection[str], values: _Values) -> None:
    """Refuse what was typed and does nothing.

    Args:
        rules: When which flags do nothing.
        typed: The flags that were typed, and arguments in capitals.
        values: Parameter → value, of all.

    Raises:
        InputError: If there is one.
    """
    for rule in rules:
        for flag in rule.flags:
            if flag in typed and rule.here(values):
                raise InputError(f"{flag} has no effect {rule.why}.", rule.mend)
