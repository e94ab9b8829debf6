"""The whole demonstration on a tiny model."""

import hashlib
import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import forks
import tiny_models
from taia.demo import setting
from taia.demo.run import demonstrate
from taia.errors import CheckpointError, DestinationError, RunError, SelectionError
from taia.evaluation.scores.results import read_results, read_run
from taia.reporting.html import render
from taia.reporting.runs import open_runs

RECIPE = replace(setting.RECIPE, lora_r=2, learning_rate=1e-2, max_steps=2, warmup_steps=0)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny_models.save_llama(tmp_path_factory.mktemp("model"))


def run(output, model, **options):
    given = {"model": str(model), "limit": 3, "recipe": RECIPE, **options}
    return demonstrate(output, **given)


@pytest.fixture(scope="module")
def done(tmp_path_factory, model):
    return run(tmp_path_factory.mktemp("demo") / "out", model)


def answers(run, mode) -> dict[str, list[float]]:
    """Question → the log-probability of each option."""
    return {
        sample.id: [sample.scores[f"logprob_{n}"] for n in range(sample.options)]
        for one in read_results(run.output)
        if one.mode == mode
        for sample in one.samples
    }


def test_output_is_what_it_says(done):
    assert sorted(path.name for path in done.output.iterdir()) == [
        "adapter",
        "report.html",
        "results",
        "run.json",
        "taia",
        "update.json",
    ]
    facts = read_run(done.output)
    assert list(facts["modes"]) == ["base", "tuned", "taia", "taif"]
    assert len(facts["recipe"]["steps"]) == 2


def test_it_is_a_run_that_report_reads_as_any_other(done):
    (read,) = open_runs([done.output])
    assert read.summary.to_json() == done.summary.to_json()
    assert read.summary.tasks == ("knowledge", "trained_skill")
    kinds = ("everyday", "animals", "science", "places", "words")
    assert read.summary.about["knowledge"].parts == kinds
    assert len(read.losses) == 2
    assert read.norms is not None
    assert 0 < read.norms.share("attention") < 1
    page = (done.output / "report.html").read_text(encoding="utf-8")
    assert page == render([read], f"taia report {done.output}")


def test_questions_are_answered_by_the_likeliest_option(done):
    asked = {question.id: question for question in setting.questions(3)}
    for one in read_results(done.output):
        for sample in one.samples:
            question, scores = asked[sample.id], answers(done, one.mode)[sample.id]
            best = question.options[scores.index(max(scores))]
            assert sample.response == best
            assert sample.gold == question.options[question.answer]
            assert sample.score == (best == sample.gold)
            assert sample.prompt == question.text


def test_scores_are_the_answers(done):
    right = {
        (one.mode, one.task): [sample.score for sample in one.samples]
        for one in read_results(done.output)
    }
    assert len(right) == 4 * 6
    for mode in ("base", "tuned", "taia", "taif"):
        kinds = done.summary.about["knowledge"].parts
        knows = [score for kind in kinds for score in right[mode, kind]]
        assert done.summary.score(mode, "knowledge").value == pytest.approx(sum(knows) / 15)
        skill = right[mode, "trained_skill"]
        assert done.summary.score(mode, "trained_skill").value == pytest.approx(sum(skill) / 3)


def test_limit_takes_the_first_of_each_kind(done):
    taken = {one.task: [sample.id for sample in one.samples] for one in read_results(done.output)}
    for task, ids in taken.items():
        of_kind = [q.id for q in setting.questions() if setting.task_of(q.kind) == task]
        assert ids == of_kind[:3]


def test_again_is_the_same(done, model, tmp_path):
    again = run(tmp_path / "again", model)
    for mode in ("base", "tuned", "taia", "taif"):
        assert answers(again, mode) == answers(done, mode)
    before, after = read_run(done.output), read_run(again.output)
    own = {"tuned", "seconds", "created"}
    assert {key for key in before if before[key] != after[key]} <= own
    assert after["hashes"]["data"].keys() == {"train.jsonl", "questions.jsonl", "indomain.jsonl"}
    for one, other in zip(read_results(done.output), read_results(again.output), strict=True):
        assert replace(one, seconds=0) == replace(other, seconds=0)


def test_records_of_the_weights_are_their_hashes(done, model):
    def sha256(path):
        return hashlib.sha256(path.read_bytes()).hexdigest()

    hashes = read_run(done.output)["hashes"]
    for side, folder in (("base", model), ("tuned", done.output / "adapter")):
        assert hashes[side] == {name: sha256(folder / name) for name in hashes[side]}
        assert any(name.endswith(".safetensors") for name in hashes[side])


@pytest.mark.parametrize(("mode", "folder"), [("tuned", "adapter"), ("taia", "taia")])
def test_adapters_are_products_that_peft_loads(done, model, mode, folder):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from taia.demo.questions import score_options

    config = json.loads((done.output / folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(model)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    loaded = PeftModel.from_pretrained(base, done.output / folder)
    asked = setting.questions(3)
    scores = score_options(loaded, AutoTokenizer.from_pretrained(model), asked)
    ours = answers(done, mode)
    assert len(ours) == len(asked)
    for question, theirs in zip(asked, scores, strict=True):
        assert ours[question.id] == pytest.approx(theirs, abs=1e-4)


def test_modes_differ(done):
    scores = [answers(done, mode) for mode in ("base", "tuned", "taia", "taif")]
    assert all(a != b for i, a in enumerate(scores) for b in scores[:i])


def test_records_name_the_output_not_where_it_was_made(done):
    written = ("*.json", "*.html", "*/*.json", "*/README.md", "results/*/*.json")
    for file in (file for form in written for file in done.output.glob(form)):
        assert "taia-tmp" not in file.read_text(), file
    assert read_run(done.output)["tuned"] == str(done.output / "adapter")
    assert str(done.output / "adapter") in (done.output / "taia" / "taia_config.json").read_text()


def test_modes_may_be_selections(model, tmp_path):
    done = run(tmp_path / "out", model, modes=["base", "tuned", "attention[0] + 0.5*mlp"])
    assert done.summary.modes[2] == "attention[0] + 0.5*mlp"
    assert "0.5*mlp" in (tmp_path / "out" / "report.html").read_text()


def test_tells_how_far_it_is(model, tmp_path):
    told = []
    run(tmp_path / "out", model, modes=["taia"], watch=lambda *step: told.append(step))
    assert ("Training (lora)", 2, 2) in told
    assert ("Asking taia", 18, 18) in told


def test_bad_input_is_refused_before_any_work(model, tmp_path):
    empty, broken = tmp_path / "empty", tmp_path / "broken"
    empty.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        broken.mkdir(exist_ok=True)
        (broken / name).write_bytes((model / name).read_bytes())
    (broken / "model.safetensors").write_bytes(b"")
    output = tmp_path / "out"
    for bad in (tmp_path / "nowhere", empty, broken):
        with pytest.raises(CheckpointError, match=bad.name):
            run(output, bad)
    with pytest.raises(SelectionError):
        run(output, model, modes=["tiaa"])
    with pytest.raises(SelectionError):
        run(output, model, modes=[])
    with pytest.raises(DestinationError):
        run(model / "inside", model)
    assert not output.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "empty"]


def test_incomplete_weights_are_refused(model, tmp_path):
    from safetensors.torch import load_file, save_file

    part = tmp_path / "part"
    part.mkdir()
    for path in model.iterdir():
        (part / path.name).write_bytes(path.read_bytes())
    tensors = load_file(part / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, part / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"layers\.1\.mlp\.up_proj"):
        run(tmp_path / "out", part)


def test_overwrites_only_demonstrations_and_only_when_asked(done, model, tmp_path):
    output = tmp_path / "out"
    (output / "adapter").mkdir(parents=True)
    (output / "mine.txt").write_text("mine")
    with pytest.raises(DestinationError):
        run(output, model)
    with pytest.raises(DestinationError):
        run(output, model, overwrite=True)
    assert (output / "mine.txt").read_text() == "mine"
    (output / "adapter" / "adapter_config.json").write_text("{}")
    run(output, model, overwrite=True)
    assert (output / "report.html").exists()
    assert not (output / "mine.txt").exists()


def test_divergence_is_an_error_and_leaves_nothing(model, tmp_path):
    with pytest.raises(RunError):
        run(
            tmp_path / "out",
            model,
            recipe=replace(RECIPE, learning_rate=1e30, max_steps=3),
        )
    assert list(tmp_path.iterdir()) == []


_INTERRUPTED = """
import sys
from pathlib import Path
from taia.demo.run import demonstrate
from dataclasses import replace
from taia.demo.setting import RECIPE
watch = lambda work, done=0, total=None: print(work, done, flush=True)
try:
    demonstrate(Path(sys.argv[2]), model=sys.argv[1], watch=watch,
                recipe=replace(RECIPE, max_steps=100000))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_training_leaves_nothing(model, tmp_path, number):
    process = forks.start(_INTERRUPTED, model, tmp_path / "out", stdout=forks.PIPE)
    try:
        for line in process.stdout:
            if line.startswith("Training (lora) 3"):
                break
        there = {path.name.partition("-")[2].rpartition("-")[0] for path in tmp_path.glob(".out.*")}
        assert there == {"", f"tmp-{process.pid}"}
        assert not (tmp_path / "out").exists()
        process.send_signal(number)
        process.stdout.read()  # a pipe that is closed first would end it instead
        assert process.wait() == 128 + number
    finally:
        process.kill()
        process.stdout.close()
    assert list(tmp_path.iterdir()) == []
