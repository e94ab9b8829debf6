import json

import pytest
import torch
from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

import chat_templates as ct
from taia.errors import DataError
from taia.training.data import DataOptions, Source, prepare, preview
from tiny_models import llama


@pytest.fixture(scope="module")
def tokenizer():
    return ct.chatting(ct.CHATML, "<|im_end|>")


@pytest.fixture
def make(tmp_path):
    def make(name, rows, weight=None):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(rows))
        return Source(str(path), weight)

    return make


def rows(letter, count, length=1):
    return [
        {"prompt": f"{letter}{i}:", "completion": f"{i}" * (1 + i % length)} for i in range(count)
    ]


def names(dataset, tokenizer, order=None):
    """What each row begins with: the source's letter and the row's number."""
    picked = dataset if order is None else dataset.select(order)
    return [tokenizer.decode(ids).partition(":")[0] for ids in picked["input_ids"]]


def test_every_row_is_there_once_with_its_mask_in_an_order_of_the_seed(make, tokenizer):
    source = make("a", rows("a", 30))
    seen = []
    first = prepare([source], tokenizer, progress=lambda *at: seen.append(at))
    assert set(first.train.column_names) == {"input_ids", "completion_mask"}
    found = names(first.train, tokenizer)
    assert sorted(found) == sorted(f"a{i}" for i in range(30))
    for ids, mask in zip(first.train["input_ids"], first.train["completion_mask"], strict=True):
        answer = tokenizer.decode([i for i, counts in zip(ids, mask, strict=True) if counts])
        assert tokenizer.decode(ids) == f"a{answer.removesuffix('<|im_end|>')}:{answer}"
    assert seen[-1] == (30, 30)
    assert names(prepare([source], tokenizer).train, tokenizer) == found
    other = names(prepare([source], tokenizer, DataOptions(seed=1)).train, tokenizer)
    assert other != found
    assert sorted(other) == sorted(found)


def test_epochs_go_through_everything_in_orders_of_their_own(make, tokenizer):
    ready = prepare([make("a", rows("a", 30))], tokenizer)
    orders = [ready.epoch_order(epoch) for epoch in range(3)]
    assert orders[0] == list(range(30))
    assert all(sorted(order) == list(range(30)) for order in orders)
    assert len(set(map(tuple, orders))) == 3
    assert orders == [ready.epoch_order(epoch, epochs=3) for epoch in range(3)]


def test_weights_give_shares_and_max_samples_the_total(make, tokenizer):
    sources = [make("a", rows("a", 60), 0.8), make("b", rows("b", 60), 0.2)]
    ready = prepare(sources, tokenizer, DataOptions(max_samples=50))
    found = names(ready.train, tokenizer)
    assert sum(name[0] == "a" for name in found) == 40
    assert len(set(found)) == len(found) == ready.facts.rows == 50
    assert [each.used for each in ready.facts.sources] == [40, 10]
    assert [each.used for each in prepare(sources, tokenizer).facts.sources] == [60, 15]


def test_shares_hold_where_rows_are_dropped(make, tokenizer):
    long = [{"prompt": "z" * 90, "completion": "x"}] * 20
    sources = [make("a", rows("a", 20) + long, 0.5), make("b", rows("b", 40), 0.5)]
    facts = prepare(sources, tokenizer, DataOptions(max_length=40)).facts
    assert [each.used for each in facts.sources] == [20, 20]
    assert facts.sources[0].dropped == 20
    assert [each.used for each in prepare(sources, tokenizer).facts.sources] == [40, 40]


def test_schedules_order_the_sources(make, tokenizer):
    sources = [make("a", rows("a", 40)), make("b", rows("b", 40))]
    found = {
        mixing: "".join(
            name[0]
            for name in names(
                prepare(sources, tokenizer, DataOptions(mixing=mixing)).train, tokenizer
            )
        )
        for mixing in ("uniform", "annealed", "in-domain-first", "in-domain-last")
    }
    assert found["in-domain-first"] == "a" * 40 + "b" * 40
    assert found["in-domain-last"] == "b" * 40 + "a" * 40
    # A share that falls linearly is 7/8, 5/8, 3/8 and 1/8 on average over the quarters.
    quarters = [found["annealed"][start : start + 20].count("a") for start in (0, 20, 40, 60)]
    assert all(abs(n - want) <= 1 for n, want in zip(quarters, (17.5, 12.5, 7.5, 2.5), strict=True))
    assert found["uniform"] not in (found["in-domain-first"], found["in-domain-last"])
    ready = prepare(sources, tokenizer, DataOptions(mixing="in-domain-first"))
    run = [names(ready.train, tokenizer, ready.epoch_order(epoch, 2)) for epoch in range(2)]
    assert {name[0] for name in run[0]} == {"a"}
    assert sorted(run[0]) == sorted([f"a{i}" for i in range(40)] * 2)


@pytest.mark.parametrize(("validation", "count"), [(0.25, 15), (7, 7)])
def test_rows_held_out_are_not_trained_on(make, tokenizer, validation, count):
    twice = rows("a", 20) + rows("a", 20)
    sources = [make("a", twice), make("b", rows("b", 20))]
    options = DataOptions(validation=validation)
    ready = prepare(sources, tokenizer, options)
    held, trained = names(ready.validation, tokenizer), names(ready.train, tokenizer)
    assert len(held) == count
    assert not set(held) & set(trained)
    assert set(held) | set(trained) == {f"{s}{i}" for s in "ab" for i in range(20)}
    assert names(prepare(sources, tokenizer, options).validation, tokenizer) == held
    assert sum(each.used for each in ready.facts.validation) == count
    other = prepare(sources, tokenizer, DataOptions(validation=validation, seed=1))
    assert names(other.validation, tokenizer) != held
    # Mixing comes after: the same rows are held out.
    few = prepare(sources, tokenizer, DataOptions(validation=validation, max_samples=5))
    assert names(few.validation, tokenizer) == held


def test_a_validation_file_is_taken_out_of_training(make, tokenizer):
    apart = make("v", rows("a", 5))
    ready = prepare([make("a", rows("a", 20))], tokenizer, DataOptions(validation=apart.given))
    assert names(ready.validation, tokenizer) == [f"a{i}" for i in range(5)]
    assert sorted(names(ready.train, tokenizer)) == sorted(f"a{i}" for i in range(5, 20))
    assert ready.facts.sources[0].held_out == 5


@pytest.mark.parametrize("validation", [0, -1, 1.0, 1.5, 10, 0.01])
def test_a_validation_that_leaves_nothing_is_refused(make, tokenizer, validation):
    with pytest.raises(DataError, match="validat"):
        prepare([make("a", rows("a", 10))], tokenizer, DataOptions(validation=validation))


def test_rows_that_the_template_refuses_stop_or_are_left_out(make):
    system = {
        "messages": [{"role": "system", "content": "s"}, {"role": "assistant", "content": "b"}]
    }
    good = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}]}
    source = make("a", [good, system, good])
    gemma = ct.chatting(ct.GEMMA)
    with pytest.raises(DataError, match=r"row 2: the chat template refuses it: System role"):
        prepare([source], gemma)
    facts = prepare([source], gemma, DataOptions(on_bad_row="skip")).facts.sources[0]
    assert (facts.rows, facts.bad, facts.used) == (2, 1, 2)
    assert facts.bad_shown[0].number == 2


def test_nothing_left_is_an_error(make, tokenizer):
    with pytest.raises(DataError, match="No row is left"):
        prepare([make("a", rows("a", 3))], tokenizer, DataOptions(max_length=2))
    with pytest.raises(DataError, match="no data"):
        prepare([], tokenizer)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_rows_do_not_see_one_another(make, tokenizer, attention):
    sources = [make("a", rows("a", 12, length=9)), make("b", rows("b", 12, length=5))]
    ready = prepare(sources, tokenizer, DataOptions(packing=True, max_length=48))
    alone = prepare(sources, tokenizer)
    singles = {tuple(ids): mask for ids, mask in zip(*alone.train[:].values(), strict=True)}
    assert ready.facts.examples < ready.facts.rows == 24
    model = llama(attn_implementation=attention)
    collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    leaks = []
    with torch.inference_mode():
        for example in ready.train:
            assert len(example["input_ids"]) <= 48
            row = {**example, "labels": example["input_ids"]}
            batch = collate([row])
            given = {key: batch[key] for key in ("input_ids", "position_ids")}
            packed = model(**given, use_cache=False).logits[0]
            every = torch.ones_like(batch["input_ids"])
            leaky = model(**given, attention_mask=every, use_cache=False).logits[0]
            start = 0
            for length in example["seq_lengths"]:
                ids = example["input_ids"][start : start + length]
                assert singles.pop(tuple(ids)) == example["completion_mask"][start : start + length]
                expected = model(torch.tensor([ids]), use_cache=False).logits[0]
                torch.testing.assert_close(
                    packed[start : start + length], expected, rtol=1e-4, atol=1e-4
                )
                if start:
                    leaks.append((leaky[start : start + length] - expected).abs().max().item())
                start += length
    assert not singles
    assert leaks
    assert min(leaks) > 0.01


def test_packs_keep_the_schedule(make, tokenizer):
    sources = [make("a", rows("a", 40)), make("b", rows("b", 40))]
    options = DataOptions(packing=True, max_length=48, mixing="in-domain-first")
    ready = prepare(sources, tokenizer, options)
    order = "".join(
        "a" if "a" in text else "b" for text in map(tokenizer.decode, ready.train["input_ids"])
    )
    assert order == "a" * order.count("a") + "b" * order.count("b")
    assert not any({"a", "b"} <= set(tokenizer.decode(ids)) for ids in ready.train["input_ids"])
    assert sorted(ready.epoch_order(1)) == list(range(len(ready.train)))


def test_a_preview_shows_what_counts_bright_or_between_marks(make, tokenizer):
    source = make("a", [{"question": "Why [b]?", "answer": "So é."}])
    ready = prepare([source], tokenizer)
    text = preview(ready, tokenizer)
    assert text.plain.endswith("<|im_start|>assistant\nSo é.<|im_end|>\n")
    bright = set(range(len(text.plain)))
    for span in text.spans:
        assert span.style == "dim"
        bright -= set(range(span.start, span.end))
    assert "".join(text.plain[i] for i in sorted(bright)) == "So é.<|im_end|>"
    marked = preview(ready.train[0], tokenizer, marks=True).plain
    assert marked.endswith("assistant\n⟦So é.<|im_end|>⟧\n")
    packed = prepare([make("p", rows("p", 3))], tokenizer, DataOptions(packing=True, max_length=99))
    assert preview(packed, tokenizer).plain.count("<|im_end|>") == 1


@pytest.mark.parametrize("packing", [False, True])
def test_the_trainer_takes_masks_and_packs_as_they_are(make, tokenizer, tmp_path, packing):
    options = DataOptions(packing=packing, max_length=48)
    ready = prepare([make("a", rows("a", 12))], tokenizer, options)
    args = SFTConfig(
        output_dir=str(tmp_path),
        # Without it TRL counts every token of rows that are tokenised already.
        completion_only_loss=True,
        padding_free=packing,
        max_length=None,
        bf16=False,
        use_cpu=True,
        report_to="none",
        train_sampling_strategy="sequential",
        per_device_train_batch_size=1,
    )
    model = llama(vocab_size=len(tokenizer))
    trainer = SFTTrainer(
        model=model, args=args, train_dataset=ready.train, processing_class=tokenizer
    )
    batches = list(trainer.get_train_dataloader())
    assert len(batches) == len(ready.train)
    for batch, row in zip(batches, ready.train, strict=True):
        assert batch["input_ids"][0].tolist() == row["input_ids"]
        assert batch["labels"][0].tolist() == [
            token if counts else -100
            for token, counts in zip(row["input_ids"], row["completion_mask"], strict=True)
        ]
        assert ("attention_mask" in batch) != packing
        if packing:
            expected = [place for length in row["seq_lengths"] for place in range(length)]
            assert batch["position_ids"][0].tolist() == expected
