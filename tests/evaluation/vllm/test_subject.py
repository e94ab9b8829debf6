"""Modes on one vLLM: the scores of transformers, or a refusal that says which mode is wrong."""

import gc
import os
import shutil
import tempfile

import pytest

pytest.importorskip("lm_eval", reason="needs taia[eval]")

import torch
from transformers import LlamaForCausalLM

import fake_vllm
import tiny_models
import tiny_molora
import tiny_tasks
from taia.errors import AdapterError, InputError, RunError, StoppedError
from taia.evaluation.run import evaluate
from taia.evaluation.scores.results import read_results, read_run
from taia.evaluation.settings import Settings, Vllm

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a shell script stands in for vLLM")

#: Short, so that the prompts of the check are.
LENGTH = 512
MODES = "base,tuned,taia,taif,loracl,half=attention + 0.5*mlp,again=all - mlp"
#: A task that draws.
DRAWN = """task: tiny_drawn
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/test.json}}}}
test_split: test
output_type: generate_until
doc_to_text: "Q: {{{{question}}}}\\nA:"
doc_to_target: "{{{{choices[answer]}}}}"
generation_kwargs: {{until: ["e"], max_gen_toks: 6, do_sample: true, temperature: 0.7, top_k: 9}}
metric_list: [{{metric: exact_match}}]
"""
#: One in which the answer is a letter, and one in two stages.
STAGES = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/test.json}}}}
test_split: test
output_type: generate_until
doc_to_text: "Q: {{{{question}}}}\\nA:"
doc_to_target: "{{{{choices[answer]}}}}"
generation_kwargs: {kwargs}
metric_list: [{{metric: exact_match}}]
"""
LETTER = "{letters: abcd, letter_bias: 15}"
TWO = "{max_gen_toks: 6, second_stage: {append: true, max_gen_toks: 4}}"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    tiny_models.save_llama(folder / "base", max_position_embeddings=LENGTH)
    uneven = {"rank_pattern": {"q_proj": 9}, "alpha_pattern": {"down_proj": 3}}
    tiny_models.lora(tiny_models.llama(), **uneven).save_pretrained(folder / "tuned")
    tasks = tiny_tasks.write(folder / "tasks")
    (tasks / "drawn.yaml").write_text(DRAWN.format(folder=tasks))
    for name, kwargs in (("tiny_letter", LETTER), ("tiny_two", TWO)):
        text = STAGES.format(name=name, folder=tasks, kwargs=kwargs)
        (tasks / f"{name}.yaml").write_text(text)
    return folder


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """The stand-in, after which nothing is left: no process, no temporary folder."""
    for name in ("bin", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("OPENAI_API_KEY", "of another server")
    monkeypatch.setenv("VLLM_API_KEY", "of another vLLM")
    with fake_vllm.installed(tmp_path / "bin", monkeypatch) as fake:
        yield fake
        assert not fake.argv or fake.have_ended()
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.fixture
def run(place, tmp_path):
    def run(output="run", engine=True, tasks="tiny_choice", modes="base,tuned,taia,taif", **more):
        given = {"base": place / "base", "tuned": place / "tuned", "modes": modes}
        given |= {"include_path": [place / "tasks"], "vllm": Vllm() if engine else None}
        given |= {"settings": Settings(limit=2)}
        return evaluate(**{**given, **more}, tasks=tasks.split(","), output=tmp_path / output)

    return run


def rows(folder):
    return {(r.mode, r.task): r for r in read_results(folder)}


@pytest.mark.parametrize("chat", [True, False])
def test_every_item_scores_as_with_transformers(run, fake, tmp_path, chat):
    how = {
        "tasks": "tiny_choice,tiny_words,tiny_next,tiny_text,tiny_letter,tiny_two",
        # LoRACL rates whole prompts, which no chat format has.
        "modes": MODES,
        "settings": Settings(chat_template=chat, limit=4),
        "log_samples": True,
    }
    run("here", engine=False, **how)
    run("there", **how)
    here, there = rows(tmp_path / "here"), rows(tmp_path / "there")
    assert here.keys() == there.keys()
    assert len(here) == 7 * 6
    for key, result in here.items():
        assert [s.id for s in result.samples] == [s.id for s in there[key].samples]
        assert [s.prompt for s in result.samples] == [s.prompt for s in there[key].samples]
        assert result.metrics == pytest.approx(there[key].metrics, rel=1e-4)
        scores = [[s.score for s in r.samples] for r in (result, there[key])]
        assert scores[0] == pytest.approx(scores[1], rel=1e-4)
        if key[1] in ("tiny_words", "tiny_letter", "tiny_two"):
            answers = [[s.response for s in r.samples] for r in (result, there[key])]
            assert answers[0] == answers[1]
    words = [there[mode, "tiny_words"] for mode in ("base", "tuned", "taia")]
    assert len({tuple(s.response for s in result.samples) for result in words}) == 3


def test_it_is_started_once_with_an_adapter_for_each_mode(run, fake, place, tmp_path):
    run(tasks="tiny_choice,tiny_words", modes=MODES, vllm=Vllm(("--enforce-eager",)))
    (argv,) = fake.argv
    assert argv[:2] == ["serve", str((place / "base").resolve())]
    assert fake_vllm.option(argv, "--max-lora-rank") == ["16"]
    assert fake_vllm.option(argv, "--max-loras") == ["4"]
    assert fake_vllm.option(argv, "--dtype") == ["float32"]
    assert fake_vllm.option(argv, "--generation-config") == ["vllm"]
    assert "--enforce-eager" in argv
    names = fake_vllm.option(argv, "--lora-modules")
    assert len({name.partition("=")[0] for name in names}) == 4  # taia and again are one
    assert all(name.startswith("taia-") for name in names)
    settings = read_run(tmp_path / "run")["settings"]
    assert (settings["engine"], settings["dtype"]) == ("vllm --enforce-eager", "float32")


def test_names_are_those_of_the_bytes(run, fake, place, tmp_path):
    run("one", modes="base,tuned,taia")
    first = set(fake.adapters)
    run("two", modes="taia,tuned,base")
    assert set(fake.adapters) == first
    other = tmp_path / "other"
    tiny_models.lora(tiny_models.llama(), lora_alpha=16).save_pretrained(other)
    run("three", modes="base,tuned,taia", tuned=other)
    assert not set(fake.adapters) & first


def test_draws_and_their_ends_are_asked_for(run, fake):
    run(tasks="tiny_drawn", modes="base,taia", settings=Settings(chat_template=False))
    asked = [body for body in fake.asked if not body.get("echo")]
    assert len(asked) == 2 * len(tiny_tasks.ROWS)
    assert {(b["temperature"], b["top_k"], b["max_tokens"]) for b in asked} == {(0.7, 9, 6)}
    assert len({body["seed"] for body in asked}) == len(tiny_tasks.ROWS)
    assert {tuple(body["stop_token_ids"]) for body in asked} == {(257,)}
    assert {tuple(body["stop"]) for body in asked} == {("e",)}
    assert {body["model"] for body in asked} == {"base", *fake.adapters}


def test_what_was_computed_elsewhere_is_not_taken(run, fake, tmp_path):
    run(engine=False)
    with pytest.raises(InputError, match="engine was transformers, now vllm"):
        run()
    assert not fake.argv
    run(overwrite=True)
    keys = {r.key for r in read_results(tmp_path / "run")}
    with pytest.raises(InputError, match="engine was vllm, now transformers"):
        run(engine=False)
    with pytest.raises(InputError, match="engine was vllm, now vllm --quantization fp8"):
        run(vllm=Vllm(("--quantization", "fp8")))
    run("here", engine=False)
    assert not keys & {r.key for r in read_results(tmp_path / "here")}


def test_transformers_has_given_its_memory_back_before_it_starts(run, fake):
    def models():
        gc.collect()
        return sum(isinstance(one, LlamaForCausalLM) for one in gc.get_objects())

    before, found = models(), []
    fake.at_start = lambda: found.append(models())
    run(modes="base,taia")
    assert found == [before]


def test_what_is_known_starts_nothing(run, fake):
    run()
    run()
    assert len(fake.argv) == 1


def test_the_base_alone_needs_no_adapter(run, fake):
    run(tuned=None, modes="base")
    assert "--enable-lora" not in fake.argv[0]


def test_texts_are_cut_to_what_vllm_reads(run, fake, tmp_path):
    tasks = tiny_tasks.write(tmp_path / "long")
    tiny_tasks.write_rows(tasks, [{**tiny_tasks.ROWS[0], "text": "words " * 99}])
    fake.length = 400
    run(tasks="tiny_text", modes="base,taia", include_path=[tasks])
    checked, rated = ([len(b["prompt"]) for b in fake.asked[:4]], fake.asked[4:])
    assert checked == [399] * 4
    # One more is generated, which is what an echo comes with.
    assert {len(body["prompt"][0]) for body in rated} == {399}


def named(index):
    """Answers for one model with another, both by their places."""
    return lambda names, name: names[index.get(names.index(name), names.index(name))]


def without(*parts):
    """Loads an adapter but for some modules."""

    def load(base, folder):
        model = fake_vllm.load(base, folder)
        for name, parameter in model.named_parameters():
            if "lora_B" in name and any(part in name for part in parts):
                parameter.data.zero_()
        return model

    return load


def scaled(factor):
    def load(base, folder):
        model = fake_vllm.load(base, folder)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data *= factor
        return model

    return load


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"answers_as": named({1: 0})}, "Asked for mode tuned, vLLM answers as base"),
        ({"answers_as": named({3: 0})}, "Asked for mode taif, vLLM answers as base"),
        ({"answers_as": named({2: 1})}, "Asked for mode taia, vLLM answers as tuned"),
        ({"answers_as": named({1: 3, 3: 1})}, "Asked for mode tuned, vLLM answers as taif"),
        ({"answers_as": named({0: 2})}, "Asked for mode base, vLLM answers as taia"),
        ({"load": without("lora_B")}, "Asked for mode tuned, vLLM answers as base"),
        ({"load": without("down_proj", "gate_proj")}, "In mode tuned vLLM's log-probabilities are"),
        ({"load": without("layers.1.self_attn.v_proj")}, "In mode tuned vLLM's log-probabilities"),
        ({"load": scaled(0.5)}, "In mode tuned vLLM's log-probabilities are"),
        ({"load": scaled(0.97)}, "In mode tuned vLLM's log-probabilities are"),
        ({"load": scaled(2)}, "In mode tuned vLLM's log-probabilities are"),
    ],
)
def test_a_wrong_mode_is_refused_by_name_before_anything_is_scored(
    run, fake, tmp_path, wrong, words
):
    for name, value in wrong.items():
        setattr(fake, name, value)
    with pytest.raises(RunError) as told:
        run()
    assert told.value.problem.startswith(words)
    assert "--engine vllm" in told.value.mend
    assert not (tmp_path / "run").exists()
    assert all(body["echo"] for body in fake.asked)


def forget(key):
    def change(_, choice):
        choice.pop(key)

    return change


def begin(_, choice):
    choice["prompt_token_ids"] = [256, *choice["prompt_token_ids"]]


def nan(_, choice):
    choice["logprobs"]["token_logprobs"][3] = float("nan")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (forget("logprobs"), "otherwise than"),
        (forget("prompt_token_ids"), "otherwise than"),
        (begin, "other tokens"),
        (nan, "In mode base log-probabilities of vLLM are not numbers"),
    ],
)
def test_what_it_answers_is_not_guessed_at(run, fake, change, words):
    fake.change = change
    with pytest.raises(RunError, match=words):
        run()


def test_one_that_dies_is_told_with_its_last_words(run, fake, monkeypatch, tmp_path):
    monkeypatch.setenv(fake_vllm.DOES, "dies")
    with pytest.raises(RunError) as told:
        run()
    assert "ended with code 7" in told.value.problem
    assert "ValueError: No room for the KV cache" in told.value.problem
    assert not (tmp_path / "run").exists()


def test_one_that_never_answers_is_not_waited_for_for_ever(run, fake, monkeypatch):
    monkeypatch.setenv(fake_vllm.DOES, "mute")
    with pytest.raises(RunError, match=r"did not answer within 0\.5 seconds"):
        run(vllm=Vllm(patience=0.5))


def test_one_that_dies_in_the_midst_is_told(run, fake, monkeypatch):
    monkeypatch.setenv(fake_vllm.DOES, "falls")
    with pytest.raises(RunError, match=r"ended with code 9\. .* illegal memory access"):
        run(tasks="tiny_words", modes="base,taia")


def test_one_that_fails_in_the_midst_is_told(run, fake):
    fake.answers_as = lambda names, name: name if fake.asked[-1].get("echo") else names[99]
    with pytest.raises(RunError, match="failed 4 times"):
        run(tasks="tiny_words", modes="base,taia")


def test_ctrl_c_ends_it(run, fake):
    def interrupt(work, *_):
        if "generating in mode taia" in work:
            raise KeyboardInterrupt

    with pytest.raises(StoppedError):
        run(tasks="tiny_words", modes="base,taia", watch=interrupt)
    assert fake.have_ended()


def whole(folder):
    return tiny_models.save_llama(folder / "whole", num_hidden_layers=2), "all"


def dora(folder):
    tiny_models.lora(tiny_models.llama(), use_dora=True).save_pretrained(folder / "dora")
    return folder / "dora", "all"


def saved_whole(folder):
    tuned = tiny_models.lora(tiny_models.llama(), modules_to_save=["lm_head"])
    tuned.save_pretrained(folder / "saved")
    return folder / "saved", "all"


def biases(folder):
    tiny_models.lora(tiny_models.llama(), lora_bias=True).save_pretrained(folder / "bias")
    return folder / "bias", "0.5*all"


@pytest.mark.parametrize("make", [whole, dora, saved_whole, biases])
def test_what_is_no_lora_is_refused_before_anything_starts(run, fake, tmp_path, make):
    tuned, keep = make(tmp_path)
    with pytest.raises(AdapterError) as told:
        run(tuned=tuned, modes=f"base,mine={keep}")
    assert told.value.problem.startswith("vLLM cannot answer in mode mine: ")
    assert "leave --engine vllm out" in told.value.mend
    assert "taia compose BASE TUNED" in told.value.mend
    assert not fake.argv
    assert not (tmp_path / "run").exists()
    shutil.rmtree(tuned)


def test_molora_is_refused(run, fake, tmp_path):
    tiny_molora.molora().save_pretrained(tmp_path / "molora")
    with pytest.raises(AdapterError, match=r"in mode tuned: vLLM has no MoLoRA"):
        run(tuned=tmp_path / "molora", modes="base,tuned")


def test_an_adapter_that_changes_nothing_cannot_be_checked(run, fake, place, tmp_path):
    tuned = tiny_models.lora(tiny_models.llama())
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.zeros_(parameter)
    tuned.save_pretrained(tmp_path / "null")
    with pytest.raises(RunError, match="Mode tuned says what base says"):
        run(tuned=tmp_path / "null", modes="base,tuned")


def test_without_vllm_it_is_told_how_to_get_it(run, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="pip install vllm") as told:
        run()
    assert "leave --engine vllm out" in told.value.mend
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("given", [{"device": "cpu"}, {"load_in_4bit": True}])
def test_what_vllm_would_not_hear_of_is_refused(run, given):
    with pytest.raises(InputError, match=f"{next(iter(given))} has no effect on vLLM"):
        run(**given)


@pytest.mark.parametrize("flag", ["--port=1", "--max_loras", "--api-key", "--dtype", "--model"])
def test_flags_of_taias_own_are_refused(flag):
    with pytest.raises(InputError, match=flag.partition("=")[0].replace("_", "-")):
        Vllm((flag, "1"))


def test_bfloat16_is_checked_as_such(run, fake):
    run(dtype="bfloat16", modes="base,tuned,taia")
    fake.answers_as = named({1: 0})
    with pytest.raises(RunError, match="Asked for mode tuned, vLLM answers as base"):
        run("other", dtype="bfloat16", modes="base,tuned,taia")
