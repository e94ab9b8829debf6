"""Whole training runs on a tiny model: what comes out, and what interruptions change (nothing)."""

import json
import os
import signal
import socket
from unittest import mock

import pytest
import torch
from safetensors.torch import load_file

import tiny_models
from taia.checkpoint.compose import compose
from taia.errors import DestinationError, InputError, OutputError, RunError, StoppedError
from taia.training.reading import read_recipe
from taia.training.run import train
from taia.training.trainer import Trainer


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_models.save_llama(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    rows = [{"instruction": "a" * (i % 5 + 1), "input": "", "output": f"no {i}"} for i in range(24)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    def refuse(*_):
        raise AssertionError("training reached for the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def recipe(base, data, tmp_path):
    def make(output="out", **keys):
        keys = {
            "model_name_or_path": str(base),
            "data": [str(data)],
            "output_dir": str(tmp_path / output),
            "learning_rate": 1e-2,
            "per_device_train_batch_size": 4,
            "lora_r": 4,
            "lora_dropout": 0.1,
        } | keys
        return read_recipe(keys)

    return make


def weights(folder):
    (file,) = folder.glob("*model.safetensors")
    return load_file(file)


def assert_same(one, other):
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.versions
@pytest.mark.parametrize("technique", ["lora", "molora", "full"])
def test_what_comes_out_goes_into_compose(recipe, base, technique, tmp_path):
    done = train(recipe(technique=technique))
    assert done.record.losses[-1] < done.record.losses[0] - 1
    names = {path.name for path in done.output.iterdir()}
    adapter = {"adapter_config.json", "adapter_model.safetensors"}
    model = {"config.json", "generation_config.json", "model.safetensors"}
    assert names == (model if technique == "full" else adapter) | {
        *("README.md", "taia_config.json"),
        *("chat_template.jinja", "tokenizer.json", "tokenizer_config.json"),
    }
    record = json.loads((done.output / "taia_config.json").read_text())
    assert [step["step"] for step in record["steps"]] == [1, 2, 3, 4, 5, 6]
    assert record["recipe"]["technique"] == technique
    assert record["data"]["rows"] == 24
    kept = compose(base, done.output, tmp_path / "taia", keep="taia")
    assert {r.component for r in kept.rows if r.tuned.tensors} & {
        "mlp",
        "experts",
        "router",
    } == set()
    assert {r.component for r in kept.rows if r.tuned.tensors} >= {"attention"}


def test_qlora_trains_beside_a_base_in_four_bits(data, tmp_path):
    pytest.importorskip("bitsandbytes", reason="QLoRA needs bitsandbytes")
    # Its blocks hold 64 numbers.
    base = tiny_models.save_llama(tmp_path / "base", hidden_size=64, intermediate_size=128)
    keys = {"model_name_or_path": str(base), "data": [str(data)], "dtype": "float32"}
    keys |= {"learning_rate": 1e-2, "per_device_train_batch_size": 4, "lora_r": 4}
    four = train(read_recipe(keys | {"output_dir": str(tmp_path / "four"), "technique": "qlora"}))
    whole = train(read_recipe(keys | {"output_dir": str(tmp_path / "whole")}))
    assert four.record.losses[-1] < four.record.losses[0] - 1
    assert four.record.losses[0] != whole.record.losses[0]
    assert four.record.losses[0] == pytest.approx(whole.record.losses[0], rel=0.1)
    assert weights(four.output).keys() == weights(whole.output).keys()
    assert four.record.total < whole.record.total + 1
    compose(base, four.output, tmp_path / "taia")


@pytest.mark.parametrize(
    "keys",
    [
        {"num_train_epochs": 2, "save_steps": 5},
        {"technique": "molora", "save_steps": 2, "gradient_accumulation_steps": 2},
        {"technique": "full", "save_steps": 2, "learning_rates": {"mlp": 1e-3}},
    ],
    ids=["lora, in the second epoch", "molora, accumulating", "full, two rates"],
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_resumed_run_is_the_run_that_was_not_interrupted(recipe, keys, number):
    whole = train(recipe("whole", **keys))
    steps = len(whole.record.losses)

    # The step after the one whose loss was told is the last one made.
    def stop(work, step, _):
        if work.startswith("Training") and step == steps - 2:
            os.kill(os.getpid(), number)

    parted = recipe("parted", **keys)
    with pytest.raises(StoppedError, match=f"step {steps - 1} of {steps}") as caught:
        train(parted, watch=stop)
    assert caught.value.exit_code == 130
    assert not (whole.output.parent / "parted" / "adapter_config.json").exists()
    resumed = train(parted, resume=True)
    assert resumed.record.losses == whole.record.losses
    assert_same(resumed.output, whole.output)


def test_killed_hard_it_goes_on_from_the_last_checkpoint(recipe):
    whole = train(recipe("whole", save_steps=2))

    class Killed(BaseException):
        pass

    def kill(work, step, _):
        if work.startswith("Training") and step == 5:
            raise Killed

    with pytest.raises(Killed):
        train(recipe("killed", save_steps=2), watch=kill)
    resumed = train(recipe("killed", save_steps=2), resume=True)
    assert resumed.record.losses == whole.record.losses
    assert_same(resumed.output, whole.output)


def test_another_seed_is_another_run_and_the_same_seed_is_not(recipe):
    one, two = train(recipe("one")), train(recipe("two"))
    assert one.record.losses == two.record.losses
    assert_same(one.output, two.output)
    assert train(recipe("three", seed=1)).record.losses != one.record.losses


def test_a_loss_that_is_not_a_number_stops_with_the_step_and_the_rows(recipe, tmp_path):
    with pytest.raises(RunError, match=r"step [2-9]\d* is (nan|inf) \(rows \d+, ") as caught:
        train(recipe(technique="full", learning_rate=1e30, max_grad_norm=0.0, warmup_steps=0))
    assert "--learning-rate" in caught.value.mend
    assert not (tmp_path / "out" / "config.json").exists()


def test_accumulating_is_the_larger_batch(recipe):
    keys = {"lora_dropout": 0.0, "max_steps": 3}
    large = train(recipe("large", per_device_train_batch_size=8, **keys))
    small = train(
        recipe("small", per_device_train_batch_size=2, gradient_accumulation_steps=4, **keys)
    )
    assert small.record.losses == pytest.approx(large.record.losses, rel=1e-4)


def test_toa_trains_attention_alone(recipe):
    done = train(recipe(train="attention"))
    assert {name.split(".")[-4] for name in weights(done.output)} == {"self_attn"}


def test_the_regulariser_pulls_towards_the_base(recipe):
    free = train(recipe("free", lora_dropout=0.0))
    held = train(recipe("held", lora_dropout=0.0, regulariser="l2", regulariser_strength=10.0))

    def size(folder):
        found = weights(folder)
        return sum(
            float((found[name.replace("lora_A", "lora_B")] @ found[name]).square().sum())
            for name in found
            if "lora_A" in name
        )

    assert size(held.output) < size(free.output) / 2


def test_ewc_measures_its_data_and_holds_what_matters(recipe, data):
    done = train(
        recipe(
            regulariser="ewc",
            regulariser_strength=1e4,
            fisher_data=[str(data)],
            fisher_samples=4,
            lora_dropout=0.0,
        )
    )
    free = train(recipe("free", lora_dropout=0.0))
    assert done.record.losses[-1] > free.record.losses[-1]


def test_validation_is_measured_and_patience_ends_training(recipe):
    done = train(
        recipe(
            validation="4",
            eval_steps=1,
            early_stopping_patience=2,
            num_train_epochs=20,
            learning_rate=5.0,
            technique="full",
        )
    )
    assert 3 <= len(done.record.validation) < 20
    best = min(row["eval_loss"] for row in done.record.validation)
    assert done.record.validation[-1]["eval_loss"] > best


def test_an_unfinished_run_is_not_thrown_away_by_accident(recipe):
    def stop(work, step, _):
        if work.startswith("Training") and step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(StoppedError):
        train(recipe(), watch=stop)
    with pytest.raises(DestinationError, match="not finished"):
        train(recipe())
    with pytest.raises(InputError, match="lora_r"):
        train(recipe(lora_r=8), resume=True)
    train(recipe(), overwrite=True)
    with pytest.raises(InputError, match="finished model"):
        train(recipe(), resume=True)
    with pytest.raises(DestinationError, match="exists already"):
        train(recipe())


def test_other_data_than_the_run_began_with_are_refused(recipe, data, tmp_path):
    mine = tmp_path / "mine.jsonl"
    mine.write_bytes(data.read_bytes())

    def stop(work, step, _):
        if work.startswith("Training") and step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(StoppedError):
        train(recipe(data=[str(mine)]), watch=stop)
    mine.write_text(mine.read_text().replace("no 3", "no 4"))
    with pytest.raises(InputError, match=r"mine\.jsonl is not what it was"):
        train(recipe(data=[str(mine)]), resume=True)


def test_activation_checkpointing_changes_memory_not_the_losses(recipe):
    plain = train(recipe("plain", max_steps=2))
    saved = train(recipe("saved", max_steps=2, activation_checkpointing=True))
    assert saved.record.losses == pytest.approx(plain.record.losses, rel=1e-5)


@pytest.mark.parametrize("keys", [{"bf16": True}, {"dtype": "bfloat16"}])
def test_bfloat16_trains_too_and_differs_a_little(recipe, keys):
    full = train(recipe("full", max_steps=2))
    half = train(recipe("half", max_steps=2, **keys))
    assert half.record.losses != full.record.losses
    assert half.record.losses == pytest.approx(full.record.losses, rel=0.05)


def test_self_distillation_trains_on_what_the_base_wrote_and_keeps_it(
    recipe, monkeypatch, tmp_path
):
    monkeypatch.setenv("TAIA_CACHE", str(tmp_path / "cache"))
    plain = train(recipe("plain", max_steps=1))
    done = train(recipe("distilled", sdft=True, max_steps=1))
    assert done.record.notes[0].startswith("The base model rewrote ")
    assert done.record.losses != plain.record.losses
    written = {p: p.read_bytes() for p in (tmp_path / "cache" / "sdft").iterdir()}
    again = train(recipe("again", sdft=True, max_steps=1))
    assert again.record.losses == done.record.losses
    assert {p: p.read_bytes() for p in (tmp_path / "cache" / "sdft").iterdir()} == written


@pytest.mark.parametrize(
    "keys",
    [
        {"lr_scheduler_type": "cosin"},
        {"optim": "adamm"},
        {"optim": "lomo"},
        {"attn_implementation": "flash_attention_2"},
    ],
)
def test_what_transformers_refuses_is_refused_in_two_lines_and_leaves_nothing(
    recipe, keys, tmp_path
):
    with pytest.raises(InputError) as caught:
        train(recipe(**keys))
    assert str(caught.value).count("\n") == 1
    assert not list((tmp_path / "out").glob("checkpoint*"))
    train(recipe(max_steps=1))  # nothing is in the way of the next


@pytest.mark.parametrize("keys", [{}, {"max_steps": 12}, {"num_train_epochs": 2}])
def test_a_schedule_is_followed_over_the_whole_run(base, data, tmp_path, keys):
    other = tmp_path / "other.jsonl"
    rows = [{"instruction": "zz", "output": f"zz {i}"} for i in range(24)]
    other.write_text("".join(json.dumps(row) + "\n" for row in rows))
    keys = {"model_name_or_path": str(base), "data": [str(data), str(other)], **keys}
    keys |= {"mixing": "in-domain-first", "per_device_train_batch_size": 4, "lora_r": 4}
    seen = []

    def look(self, model, inputs, *rest, **more):
        text = tiny_models.tokenizer().batch_decode(inputs["input_ids"])
        seen.append(["zz" in row for row in text])
        return step(self, model, inputs, *rest, **more)

    step = Trainer.training_step
    with mock.patch.object(Trainer, "training_step", look):
        train(read_recipe(keys | {"output_dir": str(tmp_path / "out")}))
    half = len(seen) // 2
    assert seen == [[False] * 4] * half + [[True] * 4] * half
    assert half == (12 if keys.get("num_train_epochs") else 6)


def test_a_checkpoint_that_cannot_be_written_ends_the_run_and_the_one_before_serves(
    recipe, tmp_path
):
    whole = train(recipe("whole", save_steps=2))
    save, calls = torch.save, []

    def full(value, path, *rest, **more):
        if "checkpoint-4" in str(path):
            calls.append(path)
            raise RuntimeError("basic_ios::clear: iostream error")
        save(value, path, *rest, **more)

    with (
        mock.patch.object(torch, "save", full),
        pytest.raises(OutputError, match="checkpoint of step 4"),
    ):
        train(recipe("full", save_steps=2))
    assert calls
    left = {path.name for path in (tmp_path / "full").iterdir()}
    assert left == {"checkpoint-2", "taia_run.json"}
    resumed = train(recipe("full", save_steps=2), resume=True)
    assert resumed.record.losses == whole.record.losses
    assert_same(resumed.output, whole.output)
