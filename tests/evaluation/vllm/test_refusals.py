"""What would give wrong numbers on vLLM is refused, by the mode's name; nothing is left of it."""

import os
import shutil

import pytest

pytest.importorskip("lm_eval", reason="needs taia[eval]")

import torch

import fake_vllm
import fake_vllm_program
import tiny_models
import tiny_molora
from taia.errors import AdapterError, InputError, RunError, StoppedError
from taia.evaluation.settings import Vllm

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a shell script stands in for vLLM")


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
    monkeypatch.setenv(fake_vllm_program.DOES, "dies")
    with pytest.raises(RunError) as told:
        run()
    assert "ended with code 7" in told.value.problem
    assert "ValueError: No room for the KV cache" in told.value.problem
    assert not (tmp_path / "run").exists()


def test_one_that_never_answers_is_not_waited_for_for_ever(run, fake, monkeypatch):
    monkeypatch.setenv(fake_vllm_program.DOES, "mute")
    with pytest.raises(RunError, match=r"did not answer within 0\.5 seconds"):
        run(vllm=Vllm(patience=0.5))


def test_one_that_dies_in_the_midst_is_told(run, fake, monkeypatch):
    monkeypatch.setenv(fake_vllm_program.DOES, "falls")
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
