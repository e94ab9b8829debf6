"""Every flag of every command has an effect or is refused, beside each flag that takes others'."""

import pytest
from typer.main import get_command

from cli_runner import inside, taia
from taia.cli import app

COMMANDS = get_command(app).commands
GONE = "./nowhere"

#: What is typed → the flags that do nothing beside it. All others do something.
HERE = {
    "compose {0} {0} -o out": set(),
    "compose {0} {0} -o out --dry-run": {"--hash"},
    "compose {0} {0} --dry-run": {"--hash", "--overwrite"},
    "demo --model {0}": set(),
    "export {0} --to vllm -o out": set(),
    "inspect {0}": set(),
    "mend {0} {0} --learn {0} -o out": set(),
    "report {0}": set(),
    "report {0} --format csv": {"--overwrite"},
    "report {0} --format card": {"--overwrite"},
    "report {0} --format csv -o out.csv": set(),
    "serve {0} {0}": {"--output", "--print", "--overwrite", "FLAGS"},
    "serve {0} {0} --engine vllm -o out": {
        *("--device", "--max-tokens", "--max-rows", "--max-waiting", "--timeout", "--grace"),
    },
    "serve {0} {0} --engine vllm": {
        *("--device", "--max-tokens", "--max-rows", "--max-waiting", "--timeout", "--grace"),
        "--overwrite",
    },
    "serve {0} {0} --engine vllm -o out --print": {
        *("--device", "--max-tokens", "--max-rows", "--max-waiting", "--timeout", "--grace"),
        "--api-key",
    },
    "eval {0}": {"--model-of", "--judge-model", "--vllm-args"},
    "eval {0} --judge http://localhost:1/v1": {"--model-of", "--vllm-args"},
    "eval {0} --server http://localhost:1/v1": {
        *("TUNED", "--device", "--dtype", "--load-in-4bit", "--declare", "--judge-model"),
        *("--engine", "--vllm-args"),
    },
    "eval {0} --engine vllm": {
        *("--device", "--load-in-4bit", "--server", "--model-of", "--judge-model"),
    },
    "train {0} --technique full": {
        *("--processes", "--lora-r", "--lora-alpha", "--lora-dropout", "--use-rslora"),
        *("--lora-ranks", "--num-experts", "--top-k", "--shared-expert"),
        *("--routing", "--router-aux-loss-coef", "--bnb-4bit-quant-type"),
        *("--use-bnb-nested-quant", "--regulariser-strength", "--fisher-data"),
        *("--fisher-samples", "--eval-steps", "--run-name"),
    },
    "train {0} --technique qlora --validation 0.1 --accelerate ddp --save-steps 0": {
        *("--num-experts", "--top-k", "--shared-expert", "--save-total-limit"),
        *("--routing", "--router-aux-loss-coef", "--regulariser-strength", "--fisher-data"),
        *("--fisher-samples", "--run-name"),
    },
    "train {0} --technique molora --regulariser ewc --regulariser-strength 1 --fisher-data x.csv "
    "--validation 0.1 --accelerate ddp": {
        *("--bnb-4bit-quant-type", "--use-bnb-nested-quant", "--run-name"),
    },
    "train {0} --technique molora --regulariser l2 --regulariser-strength 1 --validation 9 "
    "--preview": {
        *("--processes", "--accelerate", "--dry-run", "--json", "--overwrite"),
        *("--fisher-data", "--fisher-samples", "--bnb-4bit-quant-type"),
        *("--use-bnb-nested-quant", "--run-name"),
    },
    "train {0} --technique molora --regulariser l2 --regulariser-strength 1 --validation 9 "
    "--dry-run": {
        *("--fisher-data", "--fisher-samples", "--bnb-4bit-quant-type", "--overwrite"),
        *("--use-bnb-nested-quant", "--run-name"),
    },
}


#: What decides which others do something, and so is typed alone.
TURNS = {
    *("--dry-run", "--preview", "--resume", "--overwrite", "--engine", "--server", "--judge"),
    *("--technique", "--regulariser", "--accelerate", "--processes", "--print", "--hash"),
    *("--save-steps", "--use-dora"),
}
#: What --preview makes do nothing: there is no other round about.
ROUNDS = {"--accelerate", "--dry-run"}


def value_of(command, param):
    """Something that a parameter takes, if it takes anything."""
    if param.param_type_name == "option" and param.is_flag:
        return []
    context = command.make_context(command.name, [], resilient_parsing=True)
    takes = param.get_help_record(context)[0].rpartition(" ")[2]
    if "|" in takes:
        return [takes.strip("<>").partition("|")[0]]
    if "=" in takes:
        return ["mlp=4"]
    if "float" in takes:
        return ["3" if "range" in takes else "0.5"]
    return ["3" if "int" in takes or "range" in takes else "x"]


def asked():
    """Of each command beside what is typed: each flag that does nothing, then all that do."""
    for typed, idle in HERE.items():
        name, *rest = typed.split()
        params = {flag_of(param): param for param in COMMANDS[name].params}
        assert idle <= params.keys(), (typed, idle - params.keys())
        given = {flag: [flag, *value_of(COMMANDS[name], params[flag])] for flag in params}
        given |= {"FLAGS": ["--", "a"], "TUNED": ["b"], "--help": [], "--debug": []}
        alone = {flag for flag in params if flag in idle or flag in TURNS}
        for flag in params:
            there = {*params[flag].opts} & {*rest} or (flag == "--preview" and ROUNDS & {*rest})
            if there or (flag.isupper() and flag not in idle):
                del given[flag]
        for flag in sorted(alone & given.keys()):
            yield pytest.param(
                name, rest, given[flag], flag if flag in idle else "", id=f"{typed} {flag}"
            )
        together = [
            word for flag in params if flag in given and flag not in alone for word in given[flag]
        ]
        yield pytest.param(name, rest, together, "", id=f"{typed} and all others")


def flag_of(param):
    """The flag by its long name, or an argument in capitals."""
    if param.param_type_name == "argument":
        return (param.metavar or param.name).upper()
    return next(option for option in param.opts if option.startswith("--"))


def test_every_command_is_asked():
    assert {typed.split()[0] for typed in HERE} == COMMANDS.keys()


@pytest.mark.parametrize(("name", "rest", "given", "idle"), list(asked()))
def test_a_flag_does_something_or_is_refused(name, rest, given, idle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    words = [word.format(GONE) for word in rest]
    problem, mend = inside(name, *words, *given, code=2).stderr.splitlines()[-2:]
    assert ("has no effect" in problem) == bool(idle), problem
    assert f"{idle} has no effect" in problem or not idle
    assert mend.startswith("      ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("serve a b --max-rows 32", None),
        ("serve a b --engine vllm --max-rows 32", "--max-rows has no effect with --engine vllm"),
        ("train a --processes 2", "--processes has no effect without --accelerate"),
        ("eval a b --judge-model gpt", "--judge-model has no effect without --judge"),
        ("eval a b --engine vllm --device cpu", "--device has no effect with --engine vllm"),
        ("eval a --server http://x/v1 --engine vllm", "--server has no effect with --engine vllm"),
        ("eval a --server http://x/v1 --engine transformers", "--engine has no effect with --serv"),
    ],
)
def test_a_default_that_is_typed_counts_as_well(typed, words, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    problem = inside(*typed.split(), code=1 if words is None else 2).stderr
    assert ("has no effect" in problem) == (words is not None)
    assert words is None or words in problem


def test_a_key_of_the_environment_is_not_typed(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAIA_API_KEY", "secret")
    typed = f"serve {GONE} {GONE} --engine vllm -o out --print"
    assert "has no effect" not in inside(*typed.split(), code=2).stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_the_same_thing_has_the_same_letter_in_every_command(command):
    letters = {"--output": "-o", "--modes": "-m", "--keep": "-k", "--tasks": "-t"}
    for param in COMMANDS[command].params:
        for flag in param.opts:
            assert letters.get(flag, flag) in param.opts


def test_train_takes_the_letter_of_the_output(tmp_path):
    said = taia("train", GONE, "--data", "x.csv", "-o", str(tmp_path / "out"), code=2).stderr
    assert "nowhere" in said
