"""Modes on one vLLM: what it is started with and asked, and the scores, which are transformers'."""

import gc
import os

import pytest

pytest.importorskip("lm_eval", reason="needs taia[eval]")

from transformers import LlamaForCausalLM

import fake_vllm
import tiny_models
import tiny_tasks
from taia.errors import InputError
from taia.evaluation.scores.results import read_results, read_run
from taia.evaluation.settings import Settings, Vllm

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a shell script stands in for vLLM")

MODES = "base,tuned,taia,taif,loracl,half=attention + 0.5*mlp,again=all - mlp"


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
