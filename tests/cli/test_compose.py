"""`taia compose`: what it prints, what it leaves, how it ends."""

import json
import os
import signal
import subprocess
import sys

import pytest

from cli_runner import inside, taia
from taia.checkpoint.index import Checkpoint
from tiny_files import llama, llama_config, write


@pytest.fixture
def pair(tmp_path):
    config = llama_config()
    base = write(tmp_path / "base", llama(), config=config, seed=1)
    tuned = write(tmp_path / "tuned", llama(), config=config, seed=2)
    return str(base), str(tuned)


def test_taia_is_what_it_keeps_unless_told_otherwise(pair, tmp_path):
    output = tmp_path / "out"
    done = taia("compose", *pair, "--output", str(output), "--json")
    told = json.loads(done.stdout)
    assert told["selection"] == "taia"
    assert told["written"] is True
    by_component = {row["component"]: row for row in told["components"]}
    assert by_component["mlp"]["tuned"]["tensors"] == 0
    assert by_component["mlp"]["base"]["tensors"] == 6
    assert by_component["attention"]["tuned"]["tensors"] == 8
    assert Checkpoint.open(output).tensors.keys() == llama().keys()


def test_a_dry_run_shows_the_table_and_writes_nothing(pair, tmp_path):
    before = sorted(tmp_path.iterdir())
    done = inside("compose", *pair, "--dry-run")
    assert "mlp         base" in done.stdout
    assert "A dry run" in done.stdout
    assert sorted(tmp_path.iterdir()) == before


def test_an_output_that_is_there_is_kept_unless_told_otherwise(pair, tmp_path):
    output = tmp_path / "out"
    inside("compose", *pair, "--output", str(output))
    first = (output / "model.safetensors").read_bytes()
    refused = inside("compose", *pair, "--output", str(output), "--keep", "tuned", code=2)
    assert "--overwrite" in refused.stderr
    assert (output / "model.safetensors").read_bytes() == first
    inside("compose", *pair, "--output", str(output), "--keep", "tuned", "--overwrite")
    assert (output / "model.safetensors").read_bytes() != first


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["/nowhere", "{tuned}", "--output", "{out}"], "/nowhere"),
        (["{base}", "{tuned}", "--output", "{out}", "--keep", "mlp["], "character 5"),
        (["{base}", "{tuned}", "--output", "{out}", "--keep", "experts"], "experts"),
        (["{base}", "{tuned}", "--output", "{base}"], "base"),
        (["{base}", "{tuned}", "--output", "{out}", "--merge"], "merge"),
        (["{base}", "{tuned}"], "output"),
    ],
)
def test_bad_input_ends_with_2_and_two_lines_and_nothing_written(
    pair, tmp_path, arguments, complaint
):
    places = {"base": pair[0], "tuned": pair[1], "out": str(tmp_path / "out")}
    before = sorted(tmp_path.rglob("*"))
    refused = inside("compose", *(a.format(**places) for a in arguments), code=2)
    assert complaint in refused.stderr
    assert refused.stderr.startswith("taia: ")
    assert "Traceback" not in refused.stderr
    assert refused.stdout == ""
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_130_and_nothing_half_written(tmp_path, stop):
    shapes = llama(2, hidden=64, vocabulary=2000)
    config = llama_config(hidden=64, vocabulary=2000)
    base = write(tmp_path / "base", shapes, config=config, seed=1)
    tuned = write(tmp_path / "tuned", shapes, config=config, seed=2)
    before = sorted(p.name for p in tmp_path.iterdir())
    # It stops itself at the first byte written: there is no moment to wait for.
    script = f"""
import os, sys
from taia.checkpoint import compose as module
compose = module.compose
def told(done, total):
    os.kill(os.getpid(), {int(stop)})
module.compose = lambda *given, progress, **options: compose(*given, progress=told, **options)
from taia.cli import main
sys.argv = ["taia", "compose", {str(base)!r}, {str(tuned)!r}, "-o", {str(tmp_path / "out")!r}]
main()
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ended.returncode == 130, ended.stderr
    assert "interrupted" in ended.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_help_needs_no_model():
    assert "--keep" in inside("compose", "--help").stdout


def test_the_version_is_the_packages():
    from importlib.metadata import version

    assert taia("--version").stdout == f"taia {version('taia')}\n"
