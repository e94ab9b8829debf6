"""What somebody meant who typed a flag or command that is not there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from taia.errors import InputError
from taia.text import closest, wanted

_MODEL: Final = ("MODEL", "BASE", "DIR")
_RATE, _EPOCHS = ("--learning-rate",), ("--num-train-epochs",)
_BATCH: Final = ("--per-device-train-batch-size", "--batch-size")
_LENGTH: Final = ("--max-length", "--max-gen-toks", "--max-tokens")
_OUTPUT: Final = ("--output",)
_TUNED: Final = ("TUNED", "DIR")
_SHOTS: Final = ("--num-fewshot",)

#: What LLaMA-Factory, axolotl, TRL, mergekit, lm-evaluation-harness and others call a flag → what
#: it is here: the first that a command has. Capitals are arguments.
_FLAGS: Final[Mapping[str, tuple[str, ...]]] = {
    "--lr": _RATE,
    "--rate": _RATE,
    "--learningrate": _RATE,
    "--epoch": _EPOCHS,
    "--epochs": _EPOCHS,
    "--num-epochs": _EPOCHS,
    "--n-epochs": _EPOCHS,
    "--steps": ("--max-steps",),
    "--iters": ("--max-steps",),
    "--batch": _BATCH,
    "--batch-size": _BATCH,
    "--bs": _BATCH,
    "--micro-batch-size": _BATCH,
    "--train-batch-size": _BATCH,
    "--per-device-batch-size": _BATCH,
    "--grad-accum": ("--gradient-accumulation-steps",),
    "--accumulation-steps": ("--gradient-accumulation-steps",),
    "--gradient-accumulation": ("--gradient-accumulation-steps",),
    "--gradient-checkpointing": ("--activation-checkpointing",),
    "--cutoff-len": _LENGTH,
    "--max-len": _LENGTH,
    "--max-length": _LENGTH,
    "--max-new-tokens": _LENGTH,
    "--max-seq-len": _LENGTH,
    "--max-seq-length": _LENGTH,
    "--max-tokens": _LENGTH,
    "--sequence-len": _LENGTH,
    "--seq-len": _LENGTH,
    "--r": ("--lora-r",),
    "--rank": ("--lora-r",),
    "--lora-rank": ("--lora-r",),
    "--alpha": ("--lora-alpha",),
    "--dropout": ("--lora-dropout",),
    "--finetuning-type": ("--technique",),
    "--method": ("--technique",),
    "--lora-target": ("--train",),
    "--lora-target-modules": ("--train",),
    "--target-modules": ("--train",),
    "--scheduler": ("--lr-scheduler-type",),
    "--lr-scheduler": ("--lr-scheduler-type",),
    "--warmup-ratio": ("--warmup-steps",),
    "--warmup": ("--warmup-steps",),
    "--wd": ("--weight-decay",),
    "--optimizer": ("--optim",),
    "--optimiser": ("--optim",),
    "--clip": ("--max-grad-norm",),
    "--dataset": ("--data",),
    "--datasets": ("--data",),
    "--dataset-name": ("--data",),
    "--dataset-path": ("--data",),
    "--data-path": ("--data",),
    "--train-file": ("--data",),
    "--train-data": ("--data",),
    "--val": ("--validation",),
    "--val-size": ("--validation",),
    "--val-set-size": ("--validation",),
    "--eval-data": ("--validation",),
    "--sample-packing": ("--packing",),
    "--resume-from-checkpoint": ("--resume",),
    "--model": _MODEL,
    "--base-model": ("--base", *_MODEL),
    "--model-name": _MODEL,
    "--model-name-or-path": _MODEL,
    "--model-path": _MODEL,
    "--pretrained": _MODEL,
    "--base": ("BASE", "MODEL"),
    "--tuned": _TUNED,
    "--adapter": _TUNED,
    "--adapter-name-or-path": _TUNED,
    "--adapter-path": _TUNED,
    "--lora": _TUNED,
    "--lora-path": _TUNED,
    "--peft": _TUNED,
    "--output-dir": _OUTPUT,
    "--output-path": _OUTPUT,
    "--out": _OUTPUT,
    "--out-dir": _OUTPUT,
    "--outfile": _OUTPUT,
    "--save-dir": _OUTPUT,
    "--save-path": _OUTPUT,
    "--mode": ("--keep", "--modes"),
    "--modes": ("--keep",),
    "--keep": ("--modes",),
    "--selection": ("--keep", "--modes"),
    "--select": ("--keep", "--modes"),
    "--task": ("--tasks",),
    "--benchmark": ("--tasks",),
    "--fewshot": _SHOTS,
    "--few-shot": _SHOTS,
    "--n-shot": _SHOTS,
    "--shots": _SHOTS,
    "--chat-template": ("--apply-chat-template",),
    "--max-samples": ("--limit",),
    "--limit": ("--max-samples",),
    "--base-url": ("--server",),
    "--load-in-4bit": ("--technique qlora",),
    "--quantization": ("--load-in-4bit", "--technique qlora"),
    "--target": ("--to",),
    "--format": ("--to",),
    "--outtype": ("--to",),
    "--quiet": ("--json",),
    "--address": ("--host",),
    "--key": ("--api-key",),
    "--force": ("--overwrite",),
    "--overwrite-output-dir": ("--overwrite",),
    "--yes": ("--overwrite",),
    "--test": ("--dry-run",),
    "--verbose": ("--debug",),
}
_COMMANDS: Final = {
    "evaluate": "eval",
    "benchmark": "eval",
    "lm-eval": "eval",
    "merge": "compose",
    "extract": "compose",
    "filter": "compose",
    "finetune": "train",
    "fine-tune": "train",
    "sft": "train",
    "server": "serve",
    "chat": "serve",
    "api": "serve",
    "convert": "export",
    "show": "inspect",
    "info": "inspect",
}


def usage(error: Any) -> InputError:  # noqa: ANN401 - Typer keeps the class of its parser's errors to itself
    """What the parser of the command line refuses, in two lines."""
    context = error.ctx
    path = context.command_path if context is not None else "taia"
    has_all = f"`{path} --help` has them all."
    if (flag := getattr(error, "option_name", None)) and type(error).__name__ == "NoSuchOption":
        there = [name for param in context.command.params for name in (*param.opts,)]
        hint = meant_flag(flag, there, _arguments(context.command))
        return InputError(f"{path} has no {flag}.", f"{hint} {has_all}" if hint else has_all)
    told = f"`{path} --help` tells what it takes."
    found = error.__cause__.errors()[0] if hasattr(error.__cause__, "errors") else None
    if found is None or found["type"] == "value_error":  # in Typer's own words
        said = error.format_message().replace(": Value error, ", ": ", 1)
        return InputError(said, told)
    param = error.param
    name = param.opts[0] if param.opts[0].startswith("-") else param.name.upper()
    return InputError(f"{name} cannot be {found['input']!r}: {wanted(found)}.", told)


def meant_flag(flag: str, flags: Collection[str], arguments: Collection[str]) -> str:
    """A sentence on what a flag is called here; nothing if it cannot be told.

    Args:
        flag: What was typed, with its dashes.
        flags: What the command has.
        arguments: Its arguments, in capitals.
    """
    plain = flag.casefold().replace("_", "-")
    if plain in flags:  # in capitals, where others call something else so
        return f"Did you mean {plain}?"
    for known in _FLAGS.get(plain, ()):
        if known in arguments:
            return f"Give it as the argument {known}, without a flag."
        if known.partition(" ")[0] in flags:
            return f"It is {known} here."
    near = closest(flag, [name for name in flags if name.startswith("--")])
    return f"Did you mean {near}?" if near else ""


def no_command(name: str, commands: Collection[str]) -> InputError:
    """What to say of a command that is not there."""
    plain = name.casefold().replace("_", "-")
    near = _COMMANDS.get(plain) or closest(plain, commands)
    hint = f"Did you mean taia {near}? " if near else ""
    return InputError(f"taia has no command {name!r}.", f"{hint}`taia --help` has them all.")


def _arguments(command: Any) -> list[str]:  # noqa: ANN401 - see usage()
    return [
        (param.metavar or param.name).strip("[].").upper()
        for param in command.params
        if param.param_type_name == "argument"
    ]
