"""What a new user meets first: told at once, in a process of its own, with what is installed."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import forks
import tiny_files

#: Runs the command line without some packages, and says which heavy ones it came to load.
RUNNER = """
import sys
assert not sys.modules.keys() & {without!r}, "what is not installed was loaded before the fork"
sys.modules.update(dict.fromkeys({without!r}))
from taia.cli import main
try:
    main()
finally:
    heavy = ("torch", "transformers", "lm_eval", "datasets", "trl", "peft")
    print("loaded:", *[name for name in heavy if sys.modules.get(name)], file=sys.stderr)
"""


def run(
    *arguments: str, without: tuple[str, ...] = (), modules: tuple[str, ...] = forks.LIGHT
) -> subprocess.CompletedProcess[str]:
    code = RUNNER.format(without=list(without))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}
    return forks.run(code, *arguments, modules=modules, env=environment)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("eval {base} {tuned} --tasks lookalikes --modes foo", "foo matches none"),
        ("eval {base} {tuned} --tasks lookalikes --modes half=0.5*atention", "attention"),
        ("eval {base} {tuned} --tasks lookalike", "lookalikes"),
        ("eval {base} {tuned} --tasks arc_eazy", "arc_easy"),
        ("eval {base} {tuned} --tasks arc_easy", "allenai/ai2_arc"),
        ("eval {base} {tuned} --tasks taia", "--data-dir"),
        ("eval {base} {tuned} --tasks lookalikes --require 'tia >= base'", "tia"),
        ("eval {base} {tuned} --tasks lookalikes --require 'taia ~ base'", "cannot be read"),
        ("eval {base} {tuned} --tasks lookalikes -o {base}", "is an input"),
        ("eval {base} {tuned} --tasks lookalikes -o {folder}", "{folder}"),
        ("eval {base} nowhere/ --tasks lookalikes", "nowhere"),
        ("serve {base} {tuned} --modes foo", "foo matches none"),
        ("demo --model {base} --modes foo --output {folder}/out", "foo matches none"),
        ("demo --model {base} --modes base,0.5*atention --output {folder}/out", "attention"),
        ("demo --model {base} --modes , --output {folder}/out", "--modes base,tuned"),
        ("demo --model {base} --output {base}", "is an input"),
        ("serve {base} {tuned} --modes base,TAIA", "did you mean taia?"),
        ("serve {base} {tuned} --modes tai", "did you mean taia?"),
        ("train {base} --data missing.jsonl --output {folder}/out", "missing.jsonl"),
        ("train {base} --data {folder}/odd.yaml --output {folder}/out", "odd.yaml"),
        ("train {base} --data {data} --validation gone.csv --output {folder}/out", "gone.csv"),
        ("train {base} --data {data} --output {base}", "is an input"),
        ("train {adapter} --data {data} --output {folder}/out", "is an adapter"),
        ("eval --server nonsense --tasks lookalikes", "no address of a server"),
        ("eval --server ftp://x/v1 --tasks lookalikes", "no address of a server"),
        ("demo --model {base} --seed 4294967296 --output {folder}/out", "--seed"),
        ("train {base} --data {data} --output {folder}", "{folder}"),
        ("train {base} --data {data} --train atention --output {folder}/out", "attention"),
        ("train {base} --data {data} --lora-ranks foo=4 --output {folder}/out", "foo"),
        ("train {base} --data {data} --config {odd} --output {folder}/out", "lora_r"),
        ("train {base} --data {data} --preset TAIA-Lora --output {folder}/out", "taia-lora"),
        ("export {adapter} --to vllm --base {base} -o {base}", "is an input"),
        ("export {base} --to ollama --base {base} -o {folder}/out", "--base is of no use"),
        ("train {base} --data {data} --optim adamw_torhc --output {folder}/out", "adamw_torch"),
        ("train {base} --data {data} --optim foo --output {folder}/out", "'foo'"),
        ("train {base} --data {data} --lr-scheduler-type cosin --output {folder}/out", "cosine"),
        ("train {base} --data {data} --attn-implementation foo -o {folder}/out", "It knows eager"),
        ("train {base} --data {data} --attn-implementation flex -o {folder}/out", "flex_attention"),
        ("train {base} --data {data} --format alpaka --output {folder}/out", "'alpaka'"),
        ("train {base} --data x.jsonl:foo --output {folder}/out", "'x.jsonl:foo'"),
        ("train {base} --data {data}:train --output {folder}/out", "with a weight"),
        ("train {base} --data {base}:half --output {folder}/out", "with a weight"),
        ("train {base} --data no/body:test --output {folder}/out", "no/body is not in the hub's"),
        ("train {base} --data {data} --validation no/body --output {folder}/out", "no/body"),
        ("eval {base} {tuned} -t lookalikes --require 'taia.nope <= 1'", "are lookalikes"),
        ("eval {base} {tuned} -t lookalikes --require 'taia.arc_easy <= 1'", "'arc_easy'"),
        ("eval {base} {tuned} -t arc_easy --require 'base > taia.lookalikes'", "are arc_easy"),
        ("eval {base} {tuned} -t mmlu --require 'base.mmlu_x > 0.1'", "no task 'mmlu_x'"),
        ("eval {base} {tuned} -t taia --require 'base.taia_x > 0.1'", "taia_svamp"),
        ("eval {base} {tuned} -t taia_math --data-dir {folder}", "{folder}/math_test.jsonl"),
        ("eval {base} {tuned} -t taia --data-dir {folder}/no", "{folder}/no/math_test.jsonl"),
        ("eval {base} {tuned} -t lookalikes,taia_bbh --data-dir {folder}", "{folder}/bbh"),
        ("eval {base} {tuned} -t taia_mmedbench_zh", "medqa_zh_test.jsonl"),
        ("export {adapter} --to gguf --base {base} --base-gguf x.gguf -o {folder}/o", "x.gguf"),
        ("eval {base}/model.safetensors {tuned} -t lookalikes", "is one file"),
        ("eval {base} {tuned}/model.safetensors -t lookalikes", "is one file"),
        ("eval {empty} {tuned} -t lookalikes", "is empty"),
        ("eval {base} {empty} -t lookalikes", "is empty"),
        ("eval {mute} -t lookalikes", "{mute} has no tokenizer"),
        ("eval {mute} {adapter} -t lookalikes", "{mute} has no tokenizer"),
        ("eval {mute} --server http://localhost:1/v1 --modes base -t lookalikes", "no tokenizer"),
        ("serve {mute} {adapter}", "{mute} has no tokenizer"),
        ("serve {empty} {tuned}", "is empty"),
        ("train {mute} --data {data} --output {folder}/out", "{mute} has no tokenizer"),
        ("train {empty} --data {data} --output {folder}/out", "is empty"),
        ("demo --model {mute} --output {folder}/out", "{mute} has no tokenizer"),
        ("eval {base} {tuned} -t lookalikes,text_loss --require 'taia >= lost(taia, bas)'", "bas"),
    ],
)
def test_what_can_be_known_is_told_before_libraries_are_loaded(arguments, words, right):
    refused(arguments, words, right, "loaded:")


@pytest.mark.parametrize("name", ["cuda:99", "foo", "mps:9", "meta"])
@pytest.mark.parametrize(
    "command", ["eval {base} {tuned} --tasks lookalikes", "serve {base} {tuned} --port 0"]
)
def test_whether_there_is_a_device_is_asked_of_torch_alone(command, name, right):
    words = f"no device '{name}'"
    refused(f"{command} --device {name}", words, right, "loaded: torch", forks.TORCH)


def refused(arguments, words, right, loaded, modules=forks.LIGHT):
    """Two lines, with these words, once so much is loaded; nothing is written."""
    before = tiny_files.tree(Path(right["folder"]))
    done = run(*(a.format(**right) for a in shlex.split(arguments)), modules=modules)
    assert done.returncode in (1, 2), done.stderr
    *said, last = done.stderr.strip().splitlines()
    assert words.format(**right) in "\n".join(said)
    assert said[0].startswith("taia: ")  # nothing was begun
    assert last == loaded
    assert tiny_files.tree(Path(right["folder"])) == before


@pytest.mark.parametrize(
    ("without", "arguments", "extra"),
    [
        (("transformers",), "inspect {folder}/config", "torch"),
        (("torch", "trl"), "train {base} --data {data} --output {folder}/out", "train"),
        (("trl",), "train {base} --data {data} --output {folder}/out", "train"),
        (("yaml",), "train {base} --config {recipe} --data {data} --output {folder}/out", "train"),
        (("pydantic",), "train {base} --data {data} --output {folder}/out", "train"),
        (("peft",), "export {adapter} --to vllm --base {base} -o {folder}/out", "export"),
        (("transformers",), "demo --model {base} --output {folder}/out", "train"),
        (("lm_eval",), "eval {base} {tuned} --tasks lookalikes -o {folder}/out", "eval"),
        (("peft",), "eval {base} {tuned} --tasks lookalikes -o {folder}/out", "eval"),
        (("math_verify",), "eval {base} {tuned} --tasks taia_math -o {folder}/out", "eval"),
        (("math_verify",), "eval {base} {tuned} -t lookalikes,taia -o {folder}/out", "eval"),
        (("bitsandbytes",), "eval {base} {tuned} --load-in-4bit -t lookalikes", "qlora"),
        (("accelerate",), "train {base} --data {data} --output {folder}/out", "train"),
        (("peft",), "train {base} --data {data} --technique full --output {folder}/out", "train"),
        (("bitsandbytes",), "train {base} --data {data} --technique qlora", "qlora"),
        (("peft",), "serve {base} {adapter} --engine vllm --print -o {folder}/out", "serve"),
        (("gguf",), "export {base} --to gguf -o {folder}/out", "export"),
        (("gguf",), "export nobody/nothing --to ollama -o {folder}/out", "export"),
        (("trl",), "demo --model {base} --output {folder}/out", "train"),
        (("jinja2",), "demo --model {base} --output {folder}/out", "train"),
        (("prometheus_client",), "serve {base} {tuned} --port 0", "serve"),
        (("fastapi",), "serve {base} {tuned} --port 0", "serve"),
        (("uvicorn",), "serve {base} {tuned} --port 0", "serve"),
    ],
)
def test_a_missing_package_is_two_lines_that_name_the_extra(without, arguments, extra, right):
    config = Path(right["folder"]) / "config"
    config.mkdir(exist_ok=True)
    (config / "config.json").write_bytes((Path(right["base"]) / "config.json").read_bytes())
    modules = () if "pydantic" in without else forks.LIGHT
    done = run(*(a.format(**right) for a in arguments.split()), without=without, modules=modules)
    assert done.returncode in (1, 2), done.stderr
    problem, mend, loaded = done.stderr.splitlines()
    assert loaded == "loaded:"
    assert problem.startswith("taia: ")
    assert any(name in problem for name in (*without, "lm-evaluation-harness", "pyyaml")), problem
    assert f"taia[{extra}]" in mend
    assert not (Path(right["folder"]) / "out").exists()


def test_zero3_without_deepspeed_is_told_at_once(right):
    typed = "train {base} --data {data} -o {folder}/out --accelerate zero3 --processes 2"
    done = run(*(a.format(**right) for a in typed.split()), without=("deepspeed",))
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "taia: deepspeed is not installed.",
        "      Install it: pip install deepspeed",
        "loaded:",
    ]


@pytest.mark.parametrize(
    "arguments", ["compose {base} {adapter} --merge", "compose {base} {tuned} --keep 0.5*mlp"]
)
def test_arithmetic_on_disk_needs_no_torch(arguments, right, tmp_path):
    given = [each.format(**right) for each in arguments.split()]
    written = []
    for output, without in ((tmp_path / "with", ()), (tmp_path / "without", ("torch",))):
        done = run(*given, "-o", str(output), without=without)
        assert done.returncode == 0, done.stderr
        written.append((output / "model.safetensors").read_bytes())
    assert written[0] == written[1] != (Path(right["base"]) / "model.safetensors").read_bytes()


def test_nobody_who_reads_is_no_error(right):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        done = subprocess.run(
            [sys.executable, "-m", "taia", "inspect", right["base"], "--json"],
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.stderr == ""
    assert done.returncode == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="it is Linux's")
def test_a_full_disk_is_told(right):
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        done = subprocess.run(
            [sys.executable, "-m", "taia", "inspect", right["base"]],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize(
    "module", ["taia.cli.app", "taia.cli.guard", "typer", "taia.training.recipe"]
)
def test_a_signal_during_imports_is_two_lines(number, module):
    script = f"""
import os, signal, sys
from importlib.abc import MetaPathFinder
class Interrupting(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.{number})
        return None
sys.meta_path.insert(0, Interrupting())
sys.argv = ["taia", "inspect", "nowhere"]
from taia.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr.splitlines() == ["taia: interrupted", "      Nothing was begun."]


@pytest.mark.skipif(os.name != "posix", reason="elsewhere it cannot be removed")
@pytest.mark.parametrize(
    "command", ["inspect {base}", "compose {base} {tuned} -o {folder}/out", "report x"]
)
def test_a_working_directory_that_was_removed_is_two_lines(command, right, tmp_path):
    (here := tmp_path / "here").mkdir()
    arguments = shlex.join(command.format(**right).split())
    script = f"rmdir {shlex.quote(str(here))} && {sys.executable} -m taia {arguments}"
    done = subprocess.run(["sh", "-c", script], cwd=here, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "taia: The working directory is not there any more.",
        "      Change to one that is, such as `cd ~`.",
    ]
    assert not (Path(right["folder"]) / "out").exists()


@pytest.mark.skipif(os.name != "posix", reason="descriptors of POSIX")
@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1), (0, 1, 2)])
def test_closed_streams_are_no_error(right, tmp_path, closed):
    def close() -> None:
        for number in closed:
            os.close(number)

    arguments = ["compose", right["base"], right["tuned"], "-o"]
    for name, before in (("with", None), ("without", close)):
        done = subprocess.run(
            [sys.executable, "-m", "taia", *arguments, str(tmp_path / name)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            preexec_fn=before,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
    files = [tiny_files.tree(tmp_path / name) for name in ("with", "without")]
    assert files[0]["model.safetensors"] == files[1]["model.safetensors"]
    assert files[0].keys() == files[1].keys()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="it is Linux's")
def test_what_was_wrong_counts_though_nobody_can_be_told():
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        done = subprocess.run([sys.executable, "-m", "taia", "inspect", "./nowhere"], stderr=full)
    assert done.returncode == 2


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_the_exit_code_is_130_wherever_the_signal_comes(number, tmp_path):
    """Much of what is imported runs in an exec() of a text, such as every data class."""
    script = f"""
import sys
import taia.checkpoint.inspection as inspection
def interrupted(*_):
    exec("import os, signal; os.kill(os.getpid(), signal.{number}); input()")
inspection.anatomy_of = interrupted
sys.argv = ["taia", "inspect", "x"]
from taia.cli import main
main()
"""
    done = as_module(script, tmp_path)
    assert done.returncode == 130
    assert done.stderr.startswith("taia: interrupted")


def as_module(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a script as ``python -m taia`` is run: after ``-c`` another code ends the process."""
    (folder / "script.py").write_text(script)
    return subprocess.run(
        [sys.executable, "-m", "script"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("numbers", ["SIGINT,SIGINT", "SIGTERM,SIGINT"])
def test_a_second_signal_during_training_ends_with_130_wherever_it_comes(numbers):
    """The first lets the step end; the second raises, here in an exec() of a text."""
    script = f"""
import os, signal, sys
from taia.cli.environment import prepare
prepare()
import taia.checkpoint.inspection as inspection
from taia.training.callbacks import StopOnRequest
def training(*_):
    stop = StopOnRequest()
    with stop.listening():
        for name in {numbers!r}.split(","):
            print(name, stop.asked, file=sys.stderr)
            exec(f"os.kill(os.getpid(), signal.{{name}})")
            for _ in range(1000):
                pass
    print("went on", file=sys.stderr)
inspection.anatomy_of = training
sys.argv = ["taia", "inspect", "x"]
from taia.cli import main
main()
"""
    done = forks.run(script)
    first, second = numbers.split(",")
    assert done.returncode == 130
    assert done.stderr.splitlines()[:3] == [f"{first} False", f"{second} True", "taia: interrupted"]
