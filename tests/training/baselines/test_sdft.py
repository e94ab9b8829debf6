"""Self-distillation on a tiny model: what is asked, what is refused, what is kept in the file."""

import json

import pytest
import torch

import tiny_models
from taia.errors import DataError, InputError, OutputError
from taia.training.baselines import sdft
from taia.training.baselines.generations import Generations, Rollout, fingerprint
from taia.training.baselines.sdft import BANNED, PROMPT, SdftOptions, refusal, rewrite

SHORT = {"max_new_tokens": 6, "batch_size": 2}


def rows(count=5):
    return [
        [
            {"role": "user", "content": "ask " * (i % 4 + 1)},
            {"role": "assistant", "content": f"answer {i}"},
        ]
        for i in range(count)
    ]


def talkative(**config):
    """A model whose greedy answers end now and then."""
    model = tiny_models.llama(tie_word_embeddings=True, **config)
    model.generation_config.repetition_penalty = 1.9
    model.generation_config.do_sample = True
    return model


@pytest.fixture
def ask(tmp_path):
    def run(data=None, model=None, tokenizer=None, **options):
        return rewrite(
            data or rows(),
            model or talkative(),
            tokenizer or tiny_models.tokenizer(),
            SdftOptions(**{**SHORT, **options}),
            tmp_path / "made" / "cache.jsonl",
        )

    run.cache = tmp_path / "made" / "cache.jsonl"
    return run


def greedy(model, tokenizer, text, steps):
    """One token at a time over the whole text, without cache, padding or generate."""
    ids = tokenizer(text, add_special_tokens=False).input_ids
    start = len(ids)
    with torch.no_grad():
        for _ in range(steps):
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == tokenizer.eos_token_id:
                return tokenizer.decode(ids[start:-1], skip_special_tokens=True).strip(), True
    return tokenizer.decode(ids[start:], skip_special_tokens=True).strip(), False


def test_answers_are_the_models_own_greedy_ones(ask):
    """Padded batches give what each prompt gives alone, whatever the model's own settings are."""
    model, tokenizer = talkative(), tiny_models.tokenizer()
    ask(model=model, tokenizer=tokenizer, batch_size=3)
    written = {(line["text"], line["ended"]) for line in lines(ask.cache)}
    expected = set()
    for question, answer in rows():
        asked = PROMPT.replace("{instruction}", question["content"])
        asked = asked.replace("{reference}", answer["content"])
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": asked}], tokenize=False, add_generation_prompt=True
        )
        expected.add(greedy(model, tokenizer, prompt, 6))
    assert written == expected
    assert len(expected) > 1
    assert model.generation_config.repetition_penalty == 1.9


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def answering(monkeypatch, *answers):
    """The model writes these, in turn, instead of what it would; returns what it was asked."""
    asked = []

    def generate(model, tokenizer, prompts, ends, options):
        for prompt in prompts:
            asked.append(tokenizer.decode(prompt))
            yield answers[(len(asked) - 1) % len(answers)]

    monkeypatch.setattr(sdft, "generate", generate)
    return asked


def test_usable_answers_replace_the_originals_and_nothing_else_changes(ask, monkeypatch):
    answering(monkeypatch, Rollout("new", True))
    data = rows(2)
    found = ask(data)
    assert [row.messages[1]["content"] for row in found] == ["new", "new"]
    assert [row.messages[0] for row in found] == [row[0] for row in data]
    assert [row.kept for row in found] == [(None,), (None,)]
    assert data == rows(2), "the rows given are left alone"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Rollout("fine", True), None),
        (Rollout("fine", False), "cut off"),
        (Rollout("", True), "empty"),
        (Rollout("As the REFERENCE answer says", True), "banned"),
        (Rollout("Now it's your turn!", True), "banned"),
        (Rollout("Your turn: go", True), "banned"),
        (Rollout("It is your turn: go", True), None),
    ],
)
def test_what_is_refused_falls_back_to_the_original(ask, monkeypatch, answer, reason):
    answering(monkeypatch, answer)
    (found,) = ask(rows(1))
    assert found.kept == (reason,)
    assert found.messages[1]["content"] == (answer.text if reason is None else "answer 0")


def test_every_banned_phrase_is_refused_and_the_list_can_be_changed():
    for phrase in BANNED:
        answer = Rollout(f"Well, {phrase.upper()}.", True)
        assert refusal(answer, "", SdftOptions()) == "banned"
        assert refusal(answer, "", SdftOptions(banned=())) is None
    assert refusal(Rollout("Oh no", True), "", SdftOptions(banned_starts=("Oh",))) == "banned"


def test_answers_can_be_held_to_agree_with_the_reference():
    def same_end(one, other):
        return one[-1] == other[-1]

    assert refusal(Rollout("so 4", True), "it is 4", SdftOptions(), same_end) is None
    assert refusal(Rollout("so 5", True), "it is 4", SdftOptions(), same_end) == "disagrees"


def test_the_prompt_holds_the_row_as_it_is_and_what_came_before(ask, monkeypatch):
    asked = answering(monkeypatch, Rollout("new", True))
    data = [
        [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": "one {reference} {x}"},
            {"role": "assistant", "content": "first {instruction}"},
            {"role": "user", "content": "two"},
            {"role": "assistant", "content": "second"},
        ]
    ]
    (found,) = ask(data)
    tokenizer = tiny_models.tokenizer()

    def prompt(before, instruction, reference):
        text = PROMPT.split("{instruction}")[0] + instruction + "\n\n### Reference Answer:\n"
        last = {"role": "user", "content": f"{text}{reference}\n\n### Response:\n"}
        return tokenizer.apply_chat_template(
            [*before, last], tokenize=False, add_generation_prompt=True
        )

    turns = data[0]
    assert sorted(asked) == sorted(
        [
            prompt(turns[:1], "one {reference} {x}", "first {instruction}"),
            prompt(turns[:3], "two", "second"),
        ]
    )
    assert [m["content"] for m in found.messages[2::2]] == ["new", "new"]
    assert found.kept == (None, None)


def test_an_answer_to_nothing_and_a_long_prompt_stay(ask, monkeypatch):
    asked = answering(monkeypatch, Rollout("new", True))
    data = [[{"role": "assistant", "content": "hello"}], rows(1)[0]]
    found = ask(data, max_prompt_tokens=40)
    assert asked == []
    assert [row.kept for row in found] == [("no instruction",), ("prompt too long",)]
    assert [row.messages for row in found] == data


def test_without_a_chat_template_the_text_is_the_prompt(ask, monkeypatch):
    asked = answering(monkeypatch, Rollout("new", True))
    ask(rows(1), tokenizer=tiny_models.tokenizer(chat=False))
    assert asked[0].startswith("Below are an instruction")
    assert asked[0].endswith("### Response:\n")


def test_interrupted_anywhere_it_goes_on_and_gives_the_same(ask, tmp_path):
    whole = ask()
    content = ask.cache.read_bytes()
    ends = [i + 1 for i, byte in enumerate(content) if byte == ord("\n")]
    assert len(ends) == 5
    for cut in (0, 3, ends[0], ends[0] + 5, ends[1], ends[2] - 1, len(content) - 1):
        ask.cache.write_bytes(content[:cut])
        assert ask() == whole
        assert sorted(ask.cache.read_bytes().split()) == sorted(content.split())


def test_what_is_written_is_not_written_again(ask, monkeypatch):
    first = ask()
    size = ask.cache.stat().st_size
    monkeypatch.setattr(sdft, "generate", None)
    assert ask() == first
    assert ask(rows(2)) == first[:2]
    assert ask(banned=(*BANNED, "e")) is not None, "what is refused is no part of the key"
    assert ask.cache.stat().st_size == size


@pytest.mark.parametrize("change", ["weights", "adapter", "template", "length", "prompt"])
def test_another_model_prompt_or_setting_is_written_anew(ask, monkeypatch, change):
    asked = answering(monkeypatch, Rollout("new", True))
    model, tokenizer = talkative(), tiny_models.tokenizer()
    ask(model=model, tokenizer=tokenizer)
    before = len(asked)
    options = {}
    if change == "weights":
        with torch.no_grad():
            model.model.layers[1].mlp.up_proj.weight.mul_(1.001)
    elif change == "adapter":
        model = tiny_models.lora(model)
    elif change == "template":
        tokenizer.chat_template = tokenizer.chat_template.replace("assistant", "model")
    elif change == "length":
        options["max_new_tokens"] = 7
    else:
        options["prompt"] = "{instruction} {reference}"
    ask(model=model, tokenizer=tokenizer, **options)
    assert len(asked) == 2 * before == 10
    assert len(lines(ask.cache)) == 10


def test_fingerprints_are_the_same_for_the_same():
    assert fingerprint(talkative()) == fingerprint(talkative())
    assert fingerprint(talkative()) != fingerprint(talkative().bfloat16())
    assert fingerprint(tiny_models.tokenizer()) == fingerprint(tiny_models.tokenizer())


def test_the_models_state_is_its_own_again(ask):
    model = talkative().train()
    own = model.generation_config
    ask(model=model)
    assert model.training
    assert model.generation_config is own


def test_a_damaged_line_is_named(ask):
    ask()
    kept = ask.cache.read_text()
    ask.cache.write_text(kept.replace('"ended"', '"eded"', 1))
    with pytest.raises(DataError, match="line 1"):
        ask()


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cache"), Generations(tmp_path / "file" / "cache", {}):
        pass


def test_progress_counts_answers(tmp_path):
    told = []
    rewrite(
        rows(),
        talkative(),
        tiny_models.tokenizer(),
        SdftOptions(**SHORT),
        tmp_path / "cache",
        lambda *args: told.append(args),
    )
    assert told == [(2, 5), (4, 5), (5, 5)]


@pytest.mark.parametrize(
    "options", [{"prompt": "{instruction}"}, {"max_new_tokens": 0}, {"batch_size": 0}]
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(InputError):
        SdftOptions(**options)
