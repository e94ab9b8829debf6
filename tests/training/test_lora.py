"""Fine-tuning through TRL on a tiny model."""

import socket

import pytest
import torch

import tiny_models
from taia.training import lora
from taia.training.lora import train_lora
from taia.training.recipe import LoraRecipe

RECIPE = LoraRecipe(lora_r=2, lora_alpha=4, learning_rate=1e-2, max_steps=3, warmup_steps=1)


def rows(answer: str = "no") -> list:
    return [
        {
            "prompt": [{"role": "user", "content": "a" * (i % 5 + 1)}],
            "completion": [{"role": "assistant", "content": f"{answer} {i}"}],
        }
        for i in range(12)
    ]


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    def refuse(*_):
        raise AssertionError("training reached for the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def train(recipe=RECIPE, data=None, chat=True, **options):
    model, tokenizer = tiny_models.llama(), tiny_models.tokenizer(chat)
    return train_lora(model, tokenizer, data or rows(), recipe, **options)


def updates(training):
    return {n: p for n, p in training.model.named_parameters() if "lora_" in n}


def test_same_seed_same_adapter_and_another_seed_another():
    one, two, other = updates(train(seed=1)), updates(train(seed=1)), updates(train(seed=2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_all_linear_layers_but_the_head_and_nothing_else_train():
    training = train()
    plain = tiny_models.llama().state_dict()
    for name, tensor in training.model.get_base_model().state_dict().items():
        if "lora_" not in name:
            assert torch.equal(tensor, plain[name.replace(".base_layer", "")]), name
    tuned = {name.split(".")[-4] for name in updates(training)}
    assert tuned == {*("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")}
    moved = [p for name, p in updates(training).items() if "lora_B" in name]
    assert all(p.abs().max() > 0 for p in moved)


def test_own_loss_is_trl_s(monkeypatch):
    """The head at some positions gives the loss and the updates of the head at all of them."""
    ours = train()
    monkeypatch.setattr(lora, "_keeps_logits", lambda _: False)
    theirs = train()
    assert ours.losses == pytest.approx(theirs.losses, rel=1e-5)
    for name, tensor in updates(theirs).items():
        torch.testing.assert_close(updates(ours)[name], tensor, rtol=1e-3, atol=1e-5)


def test_loss_counts_completions_only():
    """With one row a step, the first loss is the mean over the completion's tokens."""
    row = rows()[:1]
    recipe = LoraRecipe(max_steps=1, per_device_train_batch_size=1)
    tokenizer, model = tiny_models.tokenizer(), tiny_models.llama()
    prompt = tokenizer.apply_chat_template(
        row[0]["prompt"], tokenize=False, add_generation_prompt=True
    )
    whole = tokenizer.apply_chat_template(
        [*row[0]["prompt"], *row[0]["completion"]], tokenize=False
    )
    ids = torch.tensor([tokenizer(whole, add_special_tokens=False).input_ids])
    start = len(tokenizer(prompt, add_special_tokens=False).input_ids)
    with torch.no_grad():
        logs = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
    expected = -logs[torch.arange(ids.shape[1] - 1), ids[0, 1:]][start - 1 :].mean()
    found = train(recipe, row).losses[0]
    assert found == pytest.approx(float(expected), rel=1e-4)


def test_tells_of_each_step_and_prints_nothing(capsys):
    told = []
    training = train(progress=lambda *step: told.append(step))
    assert told == [(i + 1, 3, loss) for i, loss in enumerate(training.losses)]
    assert capsys.readouterr().out == ""


def test_the_model_gets_its_own_forward_back():
    training = train()
    assert "forward" not in vars(training.model.get_base_model())
    assert not training.model.training


def test_without_a_chat_template():
    assert len(train(chat=False).losses) == 3


def test_interrupted_leaves_no_files(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def stop(step, *_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(progress=stop)
    assert list(tmp_path.iterdir()) == []
