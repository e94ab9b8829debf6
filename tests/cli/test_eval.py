"""``taia eval`` as it is typed."""

import json
import os
import sys
import warnings
from unittest import mock

import pytest

pytest.importorskip("lm_eval", reason="needs taia[eval]")

import fake_server
import fake_vllm
import tiny_models
import tiny_tasks
from cli_runner import inside
from taia.checkpoint import kinship


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    tiny_models.save_llama(folder / "base")
    tiny_models.lora(tiny_models.llama()).save_pretrained(folder / "tuned")
    tiny_tasks.write(folder / "tasks")
    return folder


@pytest.fixture
def said(place, tmp_path):
    """Runs `taia eval` on the tiny models and tasks."""

    def run(*arguments, code=0, models=True):
        given = [str(place / "base"), str(place / "tuned")] if models else []
        return inside(
            *("eval", *given, "--include-path", str(place / "tasks")),
            *("--output", str(tmp_path / "run"), "--tasks", "tiny_choice,tiny_words", *arguments),
            code=code,
        )

    return run


def test_the_table(said, tmp_path):
    done = said("--modes", "base,taia,loracl", "--limit", "4")
    rows = [line.split()[0] for line in done.stdout.splitlines() if "±" in line]
    assert rows == ["base", "taia", "loracl"]
    assert "tiny_choice" in done.stdout
    assert f"taia report {tmp_path / 'run'}" in done.stdout
    assert "tiny_words: generating" in done.stderr
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "run.json",
        "results",
        "update.json",
    }


def test_a_doubt_about_the_pair_is_found_once_said_once_and_nothing_is_muted(said, place):
    file = place / "tuned" / "adapter_config.json"
    before = file.read_text()
    file.write_text(json.dumps(json.loads(before) | {"base_model_name_or_path": "org/another"}))
    filters = list(warnings.filters)
    try:
        with mock.patch.object(kinship, "check_adapter", wraps=kinship.check_adapter) as asked:
            done = said("--limit", "1", "--modes", "base,taia")
    finally:
        file.write_text(before)
    assert asked.call_count == 1
    assert done.stderr.count("trained from org/another") == 1
    muted = [f for f in warnings.filters if f not in filters]
    assert [f for f in muted if issubclass(kinship.DoubtfulPairWarning, f[2])] == []


def test_json_is_all_of_it(said, tmp_path):
    done = json.loads(said("--limit", "3", "--json", "--modes", "base,taia").stdout)
    assert [mode["mode"] for mode in done["modes"]] == ["base", "taia"]
    assert {task["task"] for task in done["tasks"]} == {"tiny_choice", "tiny_words"}
    assert done["run"]["command"].startswith("taia eval ")
    assert done["run"]["settings"]["limit"] == 3
    assert done["output"] == str(tmp_path / "run")


def test_conditions_decide_the_exit_code(said):
    limits = ("--modes", "base,taia", "--limit", "3")
    said(*limits, "--require", "taia >= 0")
    unmet = said(*limits, "--require", "taia >= 0", "--require", "base > 1", code=3)
    assert "taia: 'base > 1' is not met: " in unmet.stderr
    assert "±" in unmet.stdout
    bad = said(*limits, "--require", "base ~ 1", code=2)
    assert bad.stderr.count("taia: ") == 1
    assert not bad.stdout


def test_conditions_on_what_turned_and_on_sums_are_met_or_not(said):
    limits = ("--modes", "base,taia", "--limit", "3", "--tasks", "tiny_choice")
    said(*limits, "--require", "lost(taia.tiny_choice, base) <= gained(taia, base) + 1")
    said(*limits, "--require", "taia.tiny_choice >= base.tiny_choice - 1")
    unmet = said(*limits, "--require", "lost(taia.tiny_choice, base) >= 2", code=3)
    assert "'lost(taia.tiny_choice, base) >= 2' is not met: " in unmet.stderr


@pytest.mark.parametrize(
    "condition", ["taia >= base", "taia.quick >= 0", "lost(taia.quick, base) < 1"]
)
def test_a_condition_on_unlike_metrics_is_refused_with_their_names_and_nothing_is_begun(
    said, tmp_path, condition
):
    arguments = ("--tasks", "quick", "--limit", "1", "--modes", "base,taia")
    told = said(*arguments, "--require", condition, code=2).stderr
    assert repr(condition) in told
    assert "text_loss" in told
    assert "generating" not in told
    assert not (tmp_path / "run").exists()


def test_the_modes_by_default(said):
    done = said("--limit", "2", "--json", "--tasks", "tiny_choice")
    assert [mode["mode"] for mode in json.loads(done.stdout)["modes"]] == [
        "base",
        "tuned",
        "taia",
        "taif",
    ]


def test_the_suite_by_default_needs_no_name_of_a_task_and_no_network(place, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    models = (str(place / "base"), str(place / "tuned"))
    output = tmp_path / "run"
    few = ("--limit", "2", "--max-gen-toks", "2", "--modes", "base,taia", "--output", str(output))
    done = inside("eval", *models, *few)
    assert "64 of the 200 prompts" in " ".join(done.stdout.split())
    assert "The answers took " in done.stdout
    names = {"instructions_quick.json", "text_loss.json", "lookalikes.json"}
    for mode in ("base", "taia"):
        assert {path.name for path in (output / "results" / mode).iterdir()} == names


def test_a_server(said, place):
    with fake_server.serve() as server:
        done = said(
            *("--server", server.url, "--modes", "base,taia", "--model-of", "taia=mine"),
            *("--tasks", "tiny_words", "--limit", "2", "--json"),
            models=False,
        )
    assert {body["model"] for _, body, _ in server.asked} == {"base", "mine"}
    assert json.loads(done.stdout)["run"]["settings"]["dtype"] == "server"


@pytest.mark.skipif(os.name != "posix", reason="a shell script stands in for vLLM")
def test_vllm(said, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    words = ("--modes", "base,taia", "--tasks", "tiny_words", "--limit", "3", "--json")
    with fake_vllm.installed(tmp_path / "bin", monkeypatch) as fake:
        flags = ("--vllm-args", "--seed 3 --hf-overrides '{\"a\": 1}'", "--dtype", "bfloat16")
        done = json.loads(said(*words, "--engine", "vllm", *flags).stdout)
        assert fake.have_ended()
    settings = done["run"]["settings"]
    assert settings["engine"] == "vllm --seed 3 --hf-overrides '{\"a\": 1}'"
    assert settings["dtype"] == "bfloat16"
    assert fake.argv[0][fake.argv[0].index("--hf-overrides") + 1] == '{"a": 1}'
    assert (tmp_path / "run" / "update.json").is_file()


def test_vllm_that_is_not_there_is_told_before_anything(said, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "pip install vllm" in said("--engine", "vllm", code=2).stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--engine", "vllm", "--vllm-args", "--seed '3"), "No closing quotation"),
        (("--engine", "vllm", "--vllm-args", "--max-loras 9"), "--max-loras of vLLM"),
        (("--engine", "sglang"), "sglang"),
        (("--modes", "base,all + +"), "all + +"),
        (("--tasks", ","), "No task"),
        (("--server", "http://x/v1"), "TUNED has no effect with --server"),
        (("--limit", "0"), "--limit"),
        (("--tasks", "instructions", "--metric", "instructions=nope"), "has no metric 'nope'"),
        (("--tasks", "lookalikes", "--metric", "lookalikes=acc"), "has no metric 'acc'"),
        (("--dtype", "int8"), "int8"),
    ],
)
def test_what_cannot_be_ends_with_2(said, tmp_path, arguments, words):
    assert words in said(*arguments, code=2).stderr
    assert not (tmp_path / "run").exists()


def test_a_model_of_a_server_is_of_a_mode(said):
    arguments = ("--modes", "base,taia", "--model-of", "taia", "--server", "http://x/v1")
    assert "--model-of" in said(*arguments, models=False, code=2).stderr


def test_without_the_library_it_is_told(said, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    told = said(code=2).stderr
    assert "lm_eval" in told
    assert "taia[eval]" in told
