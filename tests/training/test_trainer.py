"""The loss that a step is made of, against the formula and against TRL's own."""

import json
from types import MethodType

import pytest
import torch
from trl import SFTTrainer

import tiny_models
from taia.training.arguments import arguments
from taia.training.data import Source
from taia.training.reading import read_recipe
from taia.training.run import make_trainer, read_data
from taia.training.techniques import make_ready

ROWS = [{"question": "a" * (i % 5 + 1), "answer": f"no {i}"} for i in range(8)]


@pytest.fixture
def trainer(tmp_path):
    def make(rows=ROWS, chat=True, **keys):
        file = tmp_path / "rows.jsonl"
        chats = [
            {
                "messages": [
                    {"role": "user", "content": row["question"]},
                    {"role": "assistant", "content": row["answer"]},
                ]
            }
            for row in rows
        ]
        file.write_text("".join(json.dumps(row) + "\n" for row in chats))
        recipe = read_recipe(
            {"data": [str(file)], "max_steps": 3, "learning_rate": 1e-2, "warmup_steps": 0}
            | {
                "per_device_train_batch_size": 4,
                "lora_dropout": 0.0,
                "save_steps": 0,
                "bf16": False,
            }
            | keys
        )
        tokenizer = tiny_models.tokenizer(chat)
        data = read_data(recipe, [Source(str(file))], tokenizer, lambda *_: None)
        torch.manual_seed(0)
        ready = make_ready(tiny_models.llama(), recipe)
        args = arguments(recipe, tmp_path / "scratch", cpu=True)
        return make_trainer(ready, tokenizer, data, recipe, args, watch=lambda *_: None)

    return make


def updates(trainer):
    return {n: p for n, p in trainer.model.named_parameters() if "lora_" in n}


def test_the_head_at_some_positions_gives_the_loss_and_updates_of_the_head_at_all(trainer):
    ours, theirs = trainer(), trainer()
    theirs.compute_loss = MethodType(SFTTrainer.compute_loss, theirs)
    ours.train()
    theirs.train()
    assert ours.losses == pytest.approx(theirs.losses, rel=1e-5)
    for name, tensor in updates(theirs).items():
        torch.testing.assert_close(updates(ours)[name], tensor, rtol=1e-3, atol=1e-5)


def test_the_first_loss_is_the_mean_over_the_answers_tokens(trainer):
    made = trainer(ROWS[:1], max_steps=1, per_device_train_batch_size=1)
    tokenizer, model = tiny_models.tokenizer(), tiny_models.llama()
    question = [{"role": "user", "content": ROWS[0]["question"]}]
    answer = [{"role": "assistant", "content": ROWS[0]["answer"]}]
    prompt = tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(f"{prompt}{ROWS[0]['answer']}<|im_end|>", add_special_tokens=False).input_ids
    whole = tokenizer.apply_chat_template([*question, *answer], tokenize=False)
    assert whole.startswith(f"{prompt}{ROWS[0]['answer']}<|im_end|>")
    start = len(tokenizer(prompt, add_special_tokens=False).input_ids)
    with torch.no_grad():
        logs = model(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    expected = -logs[torch.arange(len(ids) - 1), torch.tensor(ids[1:])][start - 1 :].mean()
    made.train()
    assert made.losses[0] == pytest.approx(float(expected), rel=1e-4)


def test_packed_rows_give_the_loss_of_the_rows_apart(trainer):
    """One step over all rows; a pack is one row of them all."""
    apart = trainer(max_steps=1, per_device_train_batch_size=8)
    packed = trainer(max_steps=1, per_device_train_batch_size=8, packing=True, max_length=512)
    assert len(packed.train_dataset) == 1
    apart.train()
    packed.train()
    assert packed.losses == pytest.approx(apart.losses, rel=1e-4)


def test_groups_train_at_their_own_rates(trainer):
    made = trainer(learning_rates={"mlp": 1e-30})
    before = {name: p.detach().clone() for name, p in updates(made).items()}
    made.train()
    still = {name for name, p in updates(made).items() if torch.equal(p, before[name])}
    assert still == {name for name in before if ".mlp." in name and "lora_A" in name}
    moved = [p.abs().max() for name, p in updates(made).items() if ".mlp." in name and "_B" in name]
    assert max(moved) < 1e-20


def test_balance_counts_once_a_step_however_many_batches(trainer):
    keys = {"technique": "molora", "max_steps": 1, "router_aux_loss_coef": 100.0}
    one = trainer(per_device_train_batch_size=8, **keys)
    four = trainer(per_device_train_batch_size=2, gradient_accumulation_steps=4, **keys)
    none = trainer(per_device_train_batch_size=8, **(keys | {"router_aux_loss_coef": 0.0}))
    for made in (one, four, none):
        made.train()
    assert one.losses[0] > none.losses[0] + 50
    # Of small batches the balance is not quite that of a large one.
    assert four.losses[0] == pytest.approx(one.losses[0], rel=0.2)


def test_the_model_gets_its_own_forward_back_and_nothing_is_printed(trainer, capsys):
    made = trainer()
    made.train()
    model = made.finished_model()
    assert "forward" not in vars(model.get_base_model())
    assert not model.training
    assert capsys.readouterr().out == ""


def test_without_a_chat_template(trainer):
    made = trainer(chat=False)
    made.train()
    assert len(made.losses) == 3


def test_an_order_of_rows_for_each_epoch(trainer):
    made = trainer(max_steps=-1, num_train_epochs=2)
    seen = []
    step = made.training_step

    def watched(model, inputs, *rest, **more):
        seen.append(inputs["input_ids"].clone())
        return step(model, inputs, *rest, **more)

    made.training_step = watched
    made.train()
    rows = [made.train_dataset[i]["input_ids"] for e in (0, 1) for i in made.epoch_order(e)]
    flat = [[int(t) for t in row] for batch in seen for row in batch]
    assert [row[: len(want)] for row, want in zip(flat, rows, strict=True)] == rows
    assert made.epoch_order(0) != made.epoch_order(1)
