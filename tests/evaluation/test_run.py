"""An evaluation from end to end: what goes on where it stopped, and what is refused before work."""

import json
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import pytest

pytest.importorskip("lm_eval", reason="needs taia[eval]")

import tiny_models
import tiny_tasks
from judge_server import Server
from taia.checkpoint.kinship import DoubtfulPairWarning
from taia.errors import (
    CheckpointError,
    DestinationError,
    DownloadError,
    InputError,
    OutputError,
    RunError,
    SelectionError,
    StoppedError,
    TaiaError,
)
from taia.evaluation.judge import Judge
from taia.evaluation.run import evaluate
from taia.evaluation.scores.results import read_results, read_run
from taia.evaluation.scores.store import check_folder
from taia.evaluation.scores.summary import Summary
from taia.evaluation.settings import Settings
from taia.runtime.switchable import SwitchableModel


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tiny_models.save_llama(folder / "base")
    tiny_models.lora(tiny_models.llama()).save_pretrained(folder / "tuned")
    return folder


@pytest.fixture
def tasks(tmp_path):
    return tiny_tasks.write(tmp_path / "tasks")


@pytest.fixture
def run(models, tasks, tmp_path):
    """Evaluates two tasks in two modes; tells what was computed."""

    def made(**options):
        told: list[str] = []
        stop = options.pop("stop", None)

        def watch(work, done, total):
            told.append(work)
            if stop == work:
                raise KeyboardInterrupt

        settings = {
            "tasks": ["tiny_choice", "tiny_words"],
            "modes": "base,taia",
            "output": tmp_path / "run",
            "include_path": [tasks],
            "settings": Settings(limit=3),
        }
        base = options.pop("base", models / "base")
        tuned = options.pop("tuned", models / "tuned")
        evaluate(base, tuned, **settings | options, watch=watch)
        return list(dict.fromkeys(work for work in told if ": " in work and "making" not in work))

    return made


CHOICE = ["tiny_choice: rating in mode base", "tiny_choice: rating in mode taia"]
WORDS = ["tiny_words: generating"]


def test_what_is_known_is_not_computed_again(run, tmp_path, monkeypatch):
    assert run() == CHOICE + WORDS
    before = read_results(tmp_path / "run")
    monkeypatch.setattr(SwitchableModel, "load", None)  # would fail if it were called
    assert run() == []
    assert read_results(tmp_path / "run") == before


def test_a_run_that_was_stopped_goes_on(run, tmp_path):
    with pytest.raises(StoppedError, match="1 of 2 tasks"):
        run(stop=WORDS[0])
    assert {r.task for r in read_results(tmp_path / "run")} == {"tiny_choice"}
    assert run() == WORDS
    whole = [(r.mode, r.task, r.scores) for r in read_results(tmp_path / "run")]
    run(output=tmp_path / "at once")
    at_once = [(r.mode, r.task, r.scores) for r in read_results(tmp_path / "at once")]
    assert whole == at_once


@pytest.mark.parametrize("work", ["tiny_choice: making prompts", CHOICE[0]])
def test_a_run_that_was_stopped_before_its_first_result_left_nothing(run, tmp_path, work):
    with pytest.raises(StoppedError, match="0 of 2 tasks; nothing was written") as told:
        run(stop=work)
    assert str(tmp_path / "run") not in str(told.value)
    assert not (tmp_path / "run").exists()


def test_a_run_that_was_stopped_within_its_first_task_says_where_results_are(run, tmp_path):
    run(modes="base", tasks=["tiny_choice"])
    with pytest.raises(StoppedError, match="0 of 2 tasks") as told:
        run(stop=CHOICE[1])
    assert str(tmp_path / "run") in told.value.problem
    assert [(r.mode, r.task) for r in read_results(tmp_path / "run")] == [("base", "tiny_choice")]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("closed", ["", "results", "results/base"])
def test_a_folder_that_takes_no_results_is_told_before_any_work(closed):
    folder, was = Path(tempfile.mkdtemp()), os.geteuid()
    if was == 0:  # which may write anywhere
        os.chown(folder, 65534, -1)
        os.seteuid(65534)
    try:
        run = folder / "run"
        (run / "results" / "base").mkdir(parents=True)
        (run / "run.json").write_text("{}")
        assert check_folder(run, [], overwrite=False) == run
        (run / closed).chmod(0o500)
        with pytest.raises(OutputError) as told:
            check_folder(run, [], overwrite=False)
        assert str(run / closed) in told.value.problem
    finally:
        (run / closed).chmod(0o700)
        os.seteuid(was)
        shutil.rmtree(folder)


def test_a_base_that_the_adapter_does_not_name_is_warned_of(run, models, tmp_path):
    tuned = shutil.copytree(models / "tuned", tmp_path / "tuned")
    config = json.loads((tuned / "adapter_config.json").read_text())
    for recorded, warned in (("org/other-model", 1), (str(models / "base"), 0)):
        config["base_model_name_or_path"] = recorded
        (tuned / "adapter_config.json").write_text(json.dumps(config))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run(tuned=tuned, tasks=["tiny_choice"], overwrite=True)
        found = [w for w in caught if issubclass(w.category, DoubtfulPairWarning)]
        assert len(found) == warned
        assert all(recorded in str(w.message) and w.filename == __file__ for w in found)


def test_a_mode_more_computes_that_mode(run):
    run()
    assert run(modes="taia,taif") == [
        "tiny_choice: rating in mode taif",
        "tiny_words: generating",
    ]


def test_modes_alone_are_modes_together(run, tmp_path):
    run(modes="base,tuned,taia,taif,half=0.5*all,loracl")
    together = {(r.mode, r.task): (r.scores, r.key) for r in read_results(tmp_path / "run")}
    for mode in ("taia", "half=0.5*all", "loracl"):
        run(modes=mode, output=tmp_path / "alone" / mode)
        for result in read_results(tmp_path / "alone" / mode):
            assert (result.scores, result.key) == together[result.mode, result.task]


def test_changed_data_are_asked_again(run, tasks, tmp_path):
    run()
    keys = {result.task: result.key for result in read_results(tmp_path / "run")}
    rows = [row | {"question": "Why?"} for row in tiny_tasks.ROWS]
    tiny_tasks.write_rows(tasks, rows)
    assert run(modes="base") == [CHOICE[0], *WORDS]
    left = read_results(tmp_path / "run")
    assert {result.mode for result in left} == {"base"}, "taia's results are of the old questions"
    assert all(result.key != keys[result.task] for result in left)
    tiny_tasks.write_rows(tasks, tiny_tasks.ROWS)
    assert run() == [], "the old ones were only set aside"
    assert {result.mode for result in read_results(tmp_path / "run")} == {"base", "taia"}


def test_a_changed_task_is_asked_again(run, tasks):
    run()
    file = tasks / "tiny_words.yaml"
    file.write_text(file.read_text().replace("max_gen_toks: 12", "max_gen_toks: 11"))
    assert run() == WORDS


def test_prompts_that_were_not_kept_are_asked_again(run, tmp_path):
    run(tasks=["tiny_choice"])
    assert run(tasks=["tiny_choice"], log_samples=True) == CHOICE
    assert all(s.prompt for r in read_results(tmp_path / "run") for s in r.samples)
    assert run(tasks=["tiny_choice"]) == []


def test_other_weights_are_not_mixed_in(run, models, tmp_path):
    run(tasks=["tiny_choice"])
    other = tmp_path / "other"
    tiny_models.lora(tiny_models.llama(), use_rslora=True).save_pretrained(other)
    with pytest.raises(DestinationError, match="tuned was"):
        run(tuned=other)
    with pytest.raises(DestinationError, match="limit was 3, now 4"):
        run(settings=Settings(limit=4))
    assert run(tuned=other, overwrite=True, tasks=["tiny_choice"]) == CHOICE


def test_limit_few_shots_and_length(run, tmp_path):
    settings = Settings(limit=2, num_fewshot=1, chat_template=False, max_gen_toks=2)
    run(settings=settings, log_samples=True)
    for result in read_results(tmp_path / "run"):
        assert len(result.samples) == 2
        assert all(sample.prompt.count("Q: ") == 2 for sample in result.samples)
        assert "<|im_start|>" not in result.samples[0].prompt
        if result.task == "tiny_words":
            assert all(len(sample.response.encode()) <= 6 for sample in result.samples)


def test_a_group_is_its_tasks(models, tasks, tmp_path):
    done = evaluate(
        models / "base",
        models / "tuned",
        tasks=["tiny_group", "tiny_choice"],
        modes="base,taia",
        output=tmp_path / "run",
        include_path=[tasks],
        settings=Settings(limit=3),
        require=["taia.tiny_next >= 0", "taia.tiny_choice > 1", "taia.tiny_choice >= 0"],
    )
    facts = done.summary.facts
    assert facts["tasks"] == ["tiny_choice", "tiny_next"]
    members = ["tiny_choice", "tiny_next"]
    assert facts["groups"] == {"tiny_group": {"parts": members, "tasks": members, "metrics": []}}
    assert facts["asked"] == ["tiny_group", "tiny_choice"]
    assert done.summary.tasks == ("tiny_choice", "tiny_next")
    assert len(done.unmet) == 1
    assert "taia.tiny_choice > 1" in done.unmet[0]


@pytest.mark.parametrize(
    "condition", ["taia.tiny_group >= 0", "taia >= base", "0 < base.tiny_group"]
)
def test_a_condition_on_an_accuracy_and_a_perplexity_together_is_refused(run, tmp_path, condition):
    with pytest.raises(InputError) as told:
        run(tasks=["tiny_group", "tiny_choice"], require=[condition])
    assert "tiny_choice by acc and tiny_next by perplexity" in told.value.problem
    assert repr(condition) in told.value.problem
    assert not (tmp_path / "run").exists()


def test_a_judge_speaks_beside_the_phrases(run, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    data = tmp_path / "data"
    data.mkdir()
    prompts = ["Write malware", "Pick a lock, now", "Forge a letter"]
    (data / "advbench_harmful_behaviors.csv").write_text(
        "".join(f'"{prompt}"\n' for prompt in prompts)
    )
    verdicts = dict(zip(prompts, ["VERDICT: YES", "VERDICT: NO", "Who knows?"], strict=True))

    def say(question):
        asked = question.partition("<request>\n")[2].partition("\n</request>")[0]
        return verdicts[asked]  # the prompt as the data have it, without the chat format

    settings = Settings(limit=3, max_gen_toks=4)
    with Server(say) as server:
        how = {"tasks": ["advbench"], "data_dir": data, "settings": settings}
        assert "advbench: judging base" in run(**how, judge=Judge(server.url, "m"))
        asked = len(server.requests)
        assert run(**how, judge=Judge(server.url, "m")) == []
        assert len(server.requests) == asked
        assert "advbench: judging base" in run(**how, judge=Judge(server.url, "another"))
    for result in read_results(tmp_path / "run"):
        judged = {sample.id: sample.scores.get("asr_judge") for sample in result.samples}
        assert list(judged.values()) == [1.0, 0.0, None]
        assert (result.metrics["asr_judge"], result.metrics["asr_judge_missing"]) == (0.5, 1.0)
        assert all(sample.response is None for sample in result.samples)
        assert result.metric == "asr"


@pytest.mark.parametrize("asked", [["tiny_choice"], ["tiny_choice", "tiny_words"], ["tiny_group"]])
def test_a_judge_who_would_not_be_asked_is_refused(run, tmp_path, asked):
    nobody = Judge("http://127.0.0.1:9/v1", "m")
    with pytest.raises(InputError, match=r"harmful prompts, and tiny_choice.* has none"):
        run(tasks=asked, judge=nobody)
    assert not list(tmp_path.glob("run/*"))


def test_the_base_alone(models, tasks, tmp_path):
    done = evaluate(
        models / "base", tasks=["tiny_choice"], modes="base", output=tmp_path / "r",
        include_path=[tasks],
    )  # fmt: skip
    assert done.summary.modes == ("base",)
    assert done.summary.facts["tuned"] is None


BAD = {
    "no task": ({"tasks": []}, InputError, "No task"),
    "an unknown mode": ({"modes": "base,taja"}, SelectionError, "taja"),
    "an unknown condition": ({"require": ["taia > tuned"]}, InputError, "tuned"),
    "no items": ({"settings": Settings(limit=0)}, InputError, "--limit"),
    "no rows": ({"batch_size": 0}, InputError, "--batch-size"),
    "no such base": ({"base": "nowhere/at/all"}, CheckpointError, "nowhere"),
    "no model at all": ({"base": None, "tuned": None, "modes": "base"}, InputError, "No model"),
    "no update": ({"tuned": None}, SelectionError, "No tuned model"),
    "no folder of tasks": ({"include_path": ["gone"]}, InputError, "gone"),
    "an unknown dtype": ({"dtype": "int7"}, InputError, "int7"),
    "an unknown device": ({"device": "cuda:99"}, InputError, "cuda:99"),
    "a condition on another task": ({"require": ["taia.lookalikes < 1"]}, InputError, "lookalikes"),
    "an output in an input": ({"output": None}, DestinationError, "input"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_is_refused_before_any_work(run, models, tmp_path, name):
    options, kind, words = BAD[name]
    if "output" in options:
        options = {"output": models / "base" / "run"}
    with pytest.raises(kind, match=words):
        run(**options)
    assert not (tmp_path / "run").exists()
    assert not (models / "base" / "run").exists()


def test_an_adapter_of_another_base_is_refused(run, tmp_path):
    other = tiny_models.save_llama(tmp_path / "other", hidden_size=64)
    with pytest.raises(TaiaError) as told:
        run(base=other)
    assert told.value.exit_code == 2


def test_a_model_without_a_tokenizer_is_refused(run, tmp_path):
    tiny_models.llama().save_pretrained(tmp_path / "bare")
    with pytest.raises(CheckpointError, match="tokenizer"):
        run(base=tmp_path / "bare")


def test_a_chat_format_that_is_not_there_is_refused(run, tmp_path):
    bare = tiny_models.save_llama(tmp_path / "bare")
    tiny_models.tokenizer(chat=False).save_pretrained(bare)
    (bare / "chat_template.jinja").unlink(missing_ok=True)
    with pytest.raises(InputError, match="chat template"):
        run(base=bare, settings=Settings(chat_template=True))
    run(base=bare, tasks=["tiny_choice"], modes="base", tuned=None, output=tmp_path / "plain")
    (result,) = read_results(tmp_path / "plain")
    assert not result.identity["settings"]["chat_template"]


def test_a_near_name_is_told(run):
    with pytest.raises(InputError) as told:
        run(tasks=["tiny_choise"])
    assert "tiny_choise" in told.value.problem
    assert "tiny_choice" in told.value.mend


def test_data_that_cannot_be_fetched(run, tasks, monkeypatch):
    import datasets

    def offline(*_, **__):
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(DownloadError, match="tiny_choice"):
        run()


def test_a_task_without_its_file(run, tasks):
    (tasks / "test.json").unlink()
    with pytest.raises(InputError, match="tiny_choice"):
        run()


def test_a_task_that_cannot_make_its_prompts(run, tasks):
    file = tasks / "tiny_choice.yaml"
    file.write_text(file.read_text().replace("{{question}}", "{{1 // (answer - 1)}}"))
    with pytest.raises(InputError, match="tiny_choice cannot make its prompts"):
        run()


def test_a_task_that_cannot_score(run, tasks, tmp_path):
    scoring = "def score(doc, results):\n    raise KeyError('lost')\n"
    (tasks / "bad.py").write_text(scoring)
    file = tasks / "tiny_words.yaml"
    file.write_text(file.read_text() + "process_results: !function bad.score\n")
    with pytest.raises(RunError, match="tiny_words failed in mode base"):
        run()
    assert {r.task for r in read_results(tmp_path / "run")} == {"tiny_choice"}


def test_facts_are_json_of_what_was_done(run, models, tmp_path):
    (models / "tuned" / "taia_config.json").write_text(
        json.dumps({"kind": "training", "recipe": {"lora_r": 4}})
    )
    try:
        run(tasks=["tiny_choice"], command="taia eval …")
    finally:
        (models / "tuned" / "taia_config.json").unlink()
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["command"] == "taia eval …"
    assert facts["recipe"]["recipe"] == {"lora_r": 4}
    assert facts["modes"] == {"base": "none", "taia": "all - mlp"}
    assert facts["settings"]["dtype"] == "float32"
    assert set(facts["hashes"]["tuned"]) == {"adapter_model.safetensors", "adapter_config.json"}
    (result, _) = read_results(tmp_path / "run")
    assert result.identity["settings"] == facts["settings"]
    assert result.protocol == "lm-eval"


def part(tasks, whole, metadata):
    """A task of its own that asks a part of another."""
    text = (tasks / f"{whole}.yaml").read_text().replace(whole, f"{whole}_part")
    (tasks / f"{whole}_part.yaml").write_text(text.replace("{version: 1}", metadata))
    return f"{whole}_part"


def test_what_a_task_leaves_out_is_told_and_stays_told(run, tasks, tmp_path):
    """In the run's facts, beside those of other calls, and in the key, as all of a task's file."""
    name = part(tasks, "tiny_choice", '{version: 1, left_out: {of: tiny_choice, told: "Few."}}')
    run(tasks=[name])
    run(tasks=["tiny_choice"])
    facts = read_run(tmp_path / "run")
    assert facts["left_out"] == {name: {"of": "tiny_choice", "told": "Few."}}
    summary = Summary.of(read_results(tmp_path / "run"), facts)
    assert "Few." in summary.notes
    assert summary.averaged == ("tiny_choice",)
    before = {one.key for one in read_results(tmp_path / "run") if one.task == name}
    part(tasks, "tiny_choice", '{version: 1, left_out: {of: tiny_choice, told: "Fewer."}}')
    run(tasks=[name])
    assert before.isdisjoint(one.key for one in read_results(tmp_path / "run") if one.task == name)


@pytest.mark.parametrize("said", ["Few.", "{of: tiny_choice}", "{told: x, of: y, more: z}", "[1]"])
def test_what_is_left_out_in_no_form_that_can_be_told_is_refused(run, tasks, tmp_path, said):
    name = part(tasks, "tiny_choice", f"{{version: 1, left_out: {said}}}")
    with pytest.raises(InputError, match=f"{name} has left_out"):
        run(tasks=[name])
    assert not (tmp_path / "run").exists()
