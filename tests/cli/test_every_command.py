"""Every command and every parameter: whatever is given, it ends in two lines or does its work.

What stands here goes over the commands as the parser knows them, so a new one is asked as well.
"""

from __future__ import annotations

import io
import sys
import unicodedata
from pathlib import Path
from typing import get_args
from unittest import mock

import pytest
from typer.main import get_command

import tiny_files
from cli_runner import Ended, inside
from taia.cli import app
from taia.cli.flags import given
from taia.cli.meant import meant_flag
from taia.errors import InputError, StoppedError
from taia.export.job import Outtype, TargetName

COMMANDS = get_command(app).commands
FLAGS = [
    (name, option)
    for name, command in COMMANDS.items()
    for param in command.params
    for option in param.opts
    if option.startswith("--")
]
#: Each place where a path or a hub name may be given: X is what is wrong, the rest is right.
PLACES = {
    "inspect MODEL": ("inspect", "X"),
    "compose BASE": ("compose", "X", "{tuned}", "-o", "{out}"),
    "compose TUNED": ("compose", "{base}", "X", "-o", "{out}"),
    "compose --merge": ("compose", "{base}", "X", "--merge", "-o", "{out}"),
    "export DIR": ("export", "X", "--to", "transformers", "-o", "{out}"),
    "export --base": ("export", "{adapter}", "--to", "vllm", "--base", "X", "-o", "{out}"),
    "export --base-gguf": (
        *("export", "{adapter}", "--to", "gguf", "--base", "{base}"),
        *("--base-gguf", "X", "-o", "{out}"),
    ),
    "train MODEL": ("train", "X", "--data", "{data}", "--output", "{out}"),
    "train --data": ("train", "{base}", "--data", "X", "--output", "{out}"),
    "train --config": ("train", "{base}", "--config", "X", "--output", "{out}"),
    "train --validation": (
        *("train", "{base}", "--data", "{data}", "--validation", "X"),
        *("--output", "{out}"),
    ),
    "train --fisher-data": (
        *("train", "{base}", "--data", "{data}", "--regulariser", "ewc"),
        *("--regulariser-strength", "1", "--fisher-data", "X", "--output", "{out}"),
    ),
    "eval BASE": ("eval", "X", "{tuned}", "--tasks", "lookalikes", "-o", "{out}"),
    "eval TUNED": ("eval", "{base}", "X", "--tasks", "lookalikes", "-o", "{out}"),
    "eval --include-path": (
        *("eval", "{base}", "{tuned}", "--tasks", "nobody_s_task"),
        *("--include-path", "X", "-o", "{out}"),
    ),
    "mend BASE": ("mend", "X", "{tuned}", "--learn", "{data}", "-o", "{out}"),
    "mend TUNED": ("mend", "{base}", "X", "--learn", "{data}", "-o", "{out}"),
    "mend --learn": ("mend", "{base}", "{tuned}", "--learn", "X", "-o", "{out}"),
    "mend --keep": (
        *("mend", "{base}", "{tuned}", "--learn", "{data}", "--keep", "X"),
        *("-o", "{out}"),
    ),
    "mend --include-path": (
        *("mend", "{base}", "{tuned}", "--learn", "nobody_s_task"),
        *("--include-path", "X", "-o", "{out}"),
    ),
    "serve BASE": ("serve", "X", "{tuned}", "--port", "0"),
    "serve TUNED": ("serve", "{base}", "X", "--port", "0"),
    "report RUN": ("report", "X", "-o", "{out}"),
    "demo --model": ("demo", "--model", "X", "--output", "{out}"),
}
NAME = "\x1b[31m[red]\u202e[/x]:smile:"


def deep(folder: Path) -> None:
    folder.mkdir()
    for file in ("config.json", "adapter_config.json", "tokenizer_config.json", "run.json"):
        (folder / file).write_text("[" * 100_000)


def shapeless(folder: Path) -> None:
    folder.mkdir()
    for file in ("config.json", "adapter_config.json", "tokenizer_config.json", "run.json"):
        (folder / file).write_text("[]")
    (folder / "model.safetensors").write_bytes(b"\xff" * 64)


WRONG = {
    "missing": lambda path: None,
    "an empty folder": Path.mkdir,
    "an empty file": Path.touch,
    "noise": lambda path: path.write_bytes(bytes(range(256)) * 9),
    "deep": deep,
    "shapeless": shapeless,
}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def is_two_lines(ended: Ended, code: int) -> None:
    """Two lines on stderr below what was done, nothing that steers a terminal anywhere."""
    said = ended.stderr.rstrip("\n").split("\n")
    (at,) = (n for n, line in enumerate(said) if line.startswith("taia: "))
    if "selection, character" not in said[at]:  # it points at the character in lines of its own
        assert len(said) - at == 2, ended.stderr
    assert said[-1].startswith("      ")
    assert said[-1].strip()
    assert "Traceback" not in ended.stderr
    assert "foresee" not in ended.stderr
    assert max(map(len, said)) < 1100
    kinds = {unicodedata.category(c) for c in ended.stdout + ended.stderr} - {"Zs"}
    assert not {c for c in ended.stdout + ended.stderr if unicodedata.category(c) == "Cc"} - {"\n"}
    assert not kinds & {"Cf", "Cs", "Zl", "Zp"}


def test_every_command_is_asked():
    assert {place.split()[0] for place in PLACES} == set(COMMANDS)


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("place", PLACES)
def test_a_wrong_path_is_two_lines_and_nothing_is_written(place, wrong, right, tmp_path):
    given = tmp_path / NAME.replace("/", "⁄")
    WRONG[wrong](given)
    before = tiny_files.tree(tmp_path)
    known = {**right, "out": str(tmp_path / "out")}
    arguments = [str(given) if a == "X" else a.format(**known) for a in PLACES[place]]
    # Of a path that is not there it is not known whether the hub would have had it.
    may_be_hub = wrong == "missing"
    ended = run(*arguments)
    assert ended.code == 2 or (may_be_hub and ended.code == 1), ended
    is_two_lines(ended.said, ended.code)
    assert tiny_files.tree(tmp_path) == before


def below(error: BaseException, cause: BaseException) -> BaseException:
    """An error that was raised from another."""
    error.__cause__ = cause
    return error


class Run:
    """How a command ended, and what it said."""

    def __init__(self, code: int, said: Ended) -> None:
        self.code, self.said = code, said

    def __repr__(self) -> str:
        return f"{self.code} {self.said}"


def run(*arguments: str, encoding: str = "utf-8") -> Run:
    """Runs ``taia`` with streams of an encoding, as a pipe has them."""
    from taia.cli import main

    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    with (
        mock.patch.object(sys, "argv", ["taia", *arguments]),
        mock.patch.object(sys, "stdout", streams[0]),
        mock.patch.object(sys, "stderr", streams[1]),
        mock.patch("signal.signal"),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    said = []
    for stream in streams:
        stream.flush()
        said.append(stream.buffer.getvalue().decode(encoding))
    return Run(int(ended.value.code or 0), Ended(*said))


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_printed_in_every_encoding(command, encoding):
    ended = run(*filter(None, [command]), "--help", encoding=encoding)
    assert ended.code == 0, ended
    assert ended.said.stdout.startswith("Usage: taia")
    if encoding == "utf-8" and command == "compose":
        assert "base + α · (tuned − base)" in ended.said.stdout
    if encoding == "ascii" and command == "compose":
        assert "base + ? ? (tuned ? base)" in ended.said.stdout


@pytest.mark.parametrize("columns", ["30", "60", "80", "100", "300"])
@pytest.mark.parametrize("command", COMMANDS)
def test_help_never_cuts_a_name(command, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    words = inside(command, "--help").stdout.replace(",", " ").replace("/", " ").split()
    options = {option for name, option in FLAGS if name == command}
    assert options
    assert options <= set(words)


@pytest.mark.parametrize("columns", [40, 50, 60, 79, 80, 200])
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_no_wider_than_the_terminal(command, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = inside(*filter(None, [command]), "--help").stdout.splitlines()
    assert len(lines) > 10
    assert [line for line in lines if len(line) > min(columns, 80)] == []


@pytest.mark.parametrize(("command", "flag"), FLAGS)
def test_a_misspelt_flag_leads_to_the_right_one(command, flag):
    flags = [option for name, option in FLAGS if name == command]
    spellings = {flag.upper(), flag.replace("-", "_").replace("__", "--", 1), f"{flag}s"} - {*flags}
    for typed in spellings:
        if typed.replace("_", "-") in flags:  # accepted as it is
            continue
        ended = run(command, typed)
        assert ended.code == 2
        assert typed in ended.said.stderr
        assert flag in ended.said.stderr.split("`")[0], ended
        is_two_lines(ended.said, 2)


CHOICES = [
    ("export", ("/nowhere", "--to", "gguf", "-o", "/nowhere/out"), "--outtype", get_args(Outtype)),
    ("export", ("/nowhere", "-o", "/nowhere/out"), "--to", get_args(TargetName)),
    ("train", ("/nowhere", "--technique", "molora"), "--routing", ("softmax_topk", "topk_softmax")),
    ("train", ("/nowhere",), "--on-bad-row", ("stop", "skip")),
    ("serve", ("/nowhere",), "--dtype", ("float32", "bfloat16", "float16")),
]


@pytest.mark.parametrize(
    ("command", "flag", "value", "wanted"),
    [
        ("eval", "--limit", "1.5", "a whole number"),
        ("train", "--max-steps", "ten", "a whole number"),
        ("train", "--seed", "1e3", "a whole number"),
        ("train", "--learning-rate", "fast", "a number"),
        ("serve", "--port", "", "a whole number"),
        ("serve", "--port", "65536", "at most 65535"),
        ("serve", "--port", "9" * 30, "at most 65535"),
    ],
)
def test_a_number_that_is_none_is_told_in_our_words(command, flag, value, wanted):
    refused = run(command, "/nowhere", flag, value)
    is_two_lines(refused.said, 2)
    first = refused.said.stderr.splitlines()[0]
    assert first == f"taia: {flag} cannot be {value!r}: it must be {wanted}."


@pytest.mark.parametrize(("command", "rest", "flag", "choices"), CHOICES)
def test_choices_are_spelled_as_they_are(command, rest, flag, choices):
    refused = run(command, *rest, flag, "no_such-one")
    is_two_lines(refused.said, 2)
    first = refused.said.stderr.splitlines()[0]
    assert first == (
        f"taia: Invalid value for '{flag}': 'no_such-one' is not one of "
        f"{', '.join(map(repr, choices))}."
    )
    assert f"{flag} <{'|'.join(choices)}>" in run(command, "--help").said.stdout
    underscored = f"--{flag[2:].replace('-', '_')}"
    for choice in choices:
        assert flag not in run(command, *rest, underscored, choice).said.stderr


@pytest.mark.parametrize(
    ("command", "typed", "right"),
    [
        ("train", "--lr", "--learning-rate"),
        ("train", "--epochs", "--num-train-epochs"),
        ("train", "--num_epochs", "--num-train-epochs"),
        ("train", "--batch-size", "--per-device-train-batch-size"),
        ("train", "--output_dir", "--output"),
        ("train", "--model", "MODEL"),
        ("train", "--model_name_or_path", "MODEL"),
        ("train", "--dataset", "--data"),
        ("train", "--cutoff-len", "--max-length"),
        ("train", "--gradient_checkpointing", "--activation-checkpointing"),
        ("train", "--lora-rank", "--lora-r"),
        ("eval", "--model", "BASE"),
        ("eval", "--adapter", "TUNED"),
        ("eval", "--keep", "--modes"),
        ("eval", "--num-few-shot", "--num-fewshot"),
        ("compose", "--mode", "--keep"),
        ("compose", "--modes", "--keep"),
        ("compose", "--adapter", "TUNED"),
        ("compose", "--out", "--output"),
        ("serve", "--adapter", "TUNED"),
        ("serve", "--force", "--overwrite"),
        ("export", "--target", "--to"),
        ("inspect", "--model", "MODEL"),
    ],
)
def test_flags_of_other_tools_lead_to_ours(command, typed, right):
    ended = run(command, typed, "x")
    assert ended.code == 2
    hint = ended.said.stderr.splitlines()[1].split("`")[0]
    assert right in [word.strip(".,?") for word in hint.split()]


def test_a_hint_names_only_what_a_command_has():
    assert meant_flag("--lr", ["--keep"], ["BASE"]) == ""
    assert meant_flag("--LR", ["--learning-rate"], []) == "It is --learning-rate here."


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("evaluate", "eval"), ("TRAIN", "train"), ("finetune", "train"), ("compse", "compose"),
     ("inspekt", "inspect"), ("merge", "compose")],
)  # fmt: skip
def test_a_misspelt_command_leads_to_the_right_one(typed, meant):
    ended = run(typed)
    assert ended.code == 2
    assert f"taia {meant}?" in ended.said.stderr
    is_two_lines(ended.said, 2)


@pytest.mark.parametrize(("command", "flag"), FLAGS)
def test_a_flag_without_its_value_or_with_a_wrong_one_is_two_lines(command, flag):
    (param,) = (p for p in COMMANDS[command].params if flag in p.opts)
    context = COMMANDS[command].make_context(command, [], resilient_parsing=True)
    takes = param.get_help_record(context)[0]
    tries = [[f"{flag}=\x1b[31m"]] if param.is_flag else [[flag]]
    if any(kind in takes for kind in ("<int", "<float", "|")) and not param.is_flag:
        tries.append([flag, "\x1b[31m[red]"])
    for tried in tries:
        ended = run(command, *tried)
        assert ended.code == 2, ended
        is_two_lines(ended.said, 2)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_shown_and_completes(shell, monkeypatch):
    monkeypatch.setenv("_TAIA_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("COMP_WORDS", "taia comp")
    monkeypatch.setenv("COMP_CWORD", "1")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "taia comp")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    ended = run()
    assert "compose" in ended.said.stdout
    assert "train" not in ended.said.stdout.split("\t")[0]


@pytest.mark.parametrize(
    ("command", "flag", "typed", "offered"),
    [
        ("compose", "--keep", "tai", {"taia", "taia-qkvo", "taia-strict"}),
        ("inspect", "--keep", "mlp", {"mlp", "mlp_norm"}),
        ("eval", "--modes", "base,tuned,ta", {"base,tuned,taia", "base,tuned,taif"}),
        ("serve", "--modes", "taif", {"taif"}),
        ("demo", "--modes", "bas", {"base"}),
        ("train", "--train", "embed", {"embedding"}),
        ("compose", "--keep", "zzz", set()),
    ],
)
def test_modes_are_completed(command, flag, typed, offered, monkeypatch):
    monkeypatch.setenv("_TAIA_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"taia {command} {flag} {typed}")
    monkeypatch.setenv("COMP_CWORD", "3")
    lines = set(run().said.stdout.split())
    assert offered <= lines
    assert all(line.startswith(typed) for line in lines)
    assert bool(lines) == bool(offered)


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (RuntimeError("a\nb"), 1),
        (KeyError("model_type"), 1),
        (MemoryError(), 1),
        (RecursionError("maximum recursion depth exceeded"), 1),
        (OSError(28, "No space left on device", "/x"), 1),
        (PermissionError(13, "Permission denied", "/x\x1b[31m"), 1),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), 1),
        (ModuleNotFoundError("No module named 'nowhere'", name="nowhere"), 2),
        (ImportError("cannot import name 'x' from 'torch'", name="torch"), 1),
        (RuntimeError("\x1b[31m" + "x" * 20_000), 1),
        (KeyboardInterrupt(), 130),
        (below(RuntimeError("Error calling __set_name__"), KeyboardInterrupt()), 130),
        (below(InputError("x", "y"), below(KeyError(1), KeyboardInterrupt())), 130),
        (below(StoppedError("after step 3", "go on"), KeyboardInterrupt()), 130),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("debug", [False, True])
def test_whatever_is_raised_is_two_lines(raised, code, debug, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr("taia.checkpoint.inspection.anatomy_of", fail)
    ended = run("inspect", "x", *(["--debug"] if debug else []))
    assert ended.code == code
    said = ended.said.stderr
    assert "\x1b" not in said
    assert "Traceback" not in said
    assert len(said) < 2200
    lines = said.rstrip("\n").split("\n")
    assert len(lines) == 2 + debug
    if code == 130:
        assert ("interrupted" in said) != isinstance(raised, StoppedError)
    kept = list(tmp_path.iterdir())
    assert len(kept) == debug
    if debug:
        assert lines[2].endswith(str(kept[0]))
        text = kept[0].read_text(encoding="utf-8")
        assert "Traceback" in text
        assert type(raised).__name__ in text


def test_an_interruption_while_arguments_are_read_is_told(monkeypatch):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("typer.core.TyperCommand.make_context", interrupted)
    ended = run("inspect", "x")
    assert ended.code == 130
    is_two_lines(ended.said, 130)
    assert "interrupted" in ended.said.stderr


@pytest.mark.parametrize(
    ("module", "command", "extra"),
    [
        ("torch", "compose", "torch"),
        ("trl", "train", "train"),
        ("yaml", "train", "train"),
        ("peft", "serve", "serve"),
        ("peft", "export", "export"),
        ("peft.utils", "eval", "eval"),
        ("lm_eval", "eval", "eval"),
        ("fastapi", "serve", "serve"),
        ("gguf", "demo", "train"),
        ("jinja2", "report", "eval"),
        ("bitsandbytes", "train", "qlora"),
        ("math_verify", "eval", "eval"),
        ("prometheus_client", "serve", "serve"),
    ],
)
def test_a_missing_package_names_the_extra(module, command, extra, monkeypatch):
    from taia.packages import not_installed

    monkeypatch.setitem(sys.modules, module.partition(".")[0], None)
    error = not_installed(ModuleNotFoundError(f"No module named {module!r}", name=module), command)
    assert error.mend == f"Install it: pip install 'taia[{extra}]'"
    assert error.exit_code == 2


def test_a_package_of_no_extra_is_named_itself():
    from taia.packages import not_installed

    error = not_installed(ModuleNotFoundError("No module named 'mamba'", name="mamba.x"), "eval")
    assert error.mend == "Install it: pip install mamba"


def test_every_command_that_reads_a_model_can_be_told_what_tensors_are():
    declared = {name for name, option in FLAGS if option == "--declare"}
    assert declared == set(COMMANDS) - {"demo", "report"}


def test_declarations_are_keys_of_a_recipe():
    assert given({"declare": ["model.*.a=b.*=mlp"]}) == {"declare": {"model.*.a=b.*": "mlp"}}
    with pytest.raises(InputError, match="--declare 'glue'"):
        given({"declare": ["glue"]})
