"""Items as tokens: what counts is the answer and nothing else, as models are asked and trained."""

import pytest

pytest.importorskip("lm_eval", reason="needs taia[eval]")

import tiny_models
import tiny_tasks
from taia.errors import InputError
from taia.evaluation.harness.drive import Asking
from taia.evaluation.harness.encoder import Encoder
from taia.evaluation.harness.local import LocalBackend
from taia.evaluation.harness.model import ModesLM
from taia.evaluation.harness.tasks import load_tasks
from taia.evaluation.tasks.registry import load_task
from taia.mending.items import MendItem, TaskItem, Tokeniser, in_turn, items_of
from taia.mending.sources import File, GivenData, Prompt
from taia.mending.split import key_of
from taia.training.data import Row, RowTurn

TOKENIZER = tiny_models.tokenizer()
HEAD = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


def encoder(chat=True):
    made = tiny_models.tokenizer(chat)
    return Encoder(tiny_models.llama(max_position_embeddings=4096).config, made)


def items(*tasks, folders=(), chat=True, files=()):
    own = encoder(chat)
    lm = ModesLM(LocalBackend(own, lambda: pytest.fail("loaded"), 8), lambda *_: None)
    loaded = load_tasks(list(tasks), list(folders), {}) if tasks else None
    given = GivenData(tuple(files), tuple(tasks))
    return items_of(given, loaded, lm, Asking(None, chat, chat, 0)), Tokeniser(own, 32)


def shown(example):
    """What comes before what counts, and what counts."""
    first, end = example.counted[0], example.counted[-1] + 1
    assert example.counted == tuple(range(first, end))
    return tuple(TOKENIZER.decode(part) for part in (example.ids[:first], example.ids[first:end]))


def test_a_questions_right_option_counts_after_its_prompt():
    found, tokeniser = items("questions")
    there = {item.prompt: item.gold for item in load_task("questions")}
    assert len(found) == len(there) == 300
    for item in found[:40]:
        before, after = shown(tokeniser.example(item))
        (asked,) = [prompt for prompt in there if HEAD.format(prompt) == before + "\n"] or [
            prompt for prompt in there if HEAD.format(prompt) == before
        ]
        assert after.strip() == there[asked]
        assert item.key == key_of(asked)


def test_prompts_are_as_they_will_be_asked():
    found, tokeniser = items("lookalikes")
    there = {HEAD.format(item.prompt) for item in load_task("lookalikes")}
    assert {TOKENIZER.decode(tokeniser.prompt(item)) for item in found} == there
    with pytest.raises(InputError, match="no right answers"):
        tokeniser.example(found[0])


def test_a_text_counts_from_its_first_token_on():
    found, tokeniser = items("text_loss")
    texts = {item.prompt for item in load_task("text_loss")}
    for item in found:
        assert tokeniser.prompt(item) is None
        example = tokeniser.example(item)
        assert example.counted[0] == 1
        assert TOKENIZER.decode(example.ids[1:]) in texts


@pytest.mark.parametrize("chat", [True, False])
def test_tasks_of_lm_evaluation_harness(tmp_path, chat):
    folder = tiny_tasks.write(tmp_path / "tasks")
    names = ("tiny_choice", "tiny_words", "tiny_next", "tiny_text")
    found, tokeniser = items(*names, folders=[folder], chat=chat)
    of = {}
    for item in found:
        of.setdefault(item.source, []).append(item)
    assert {name: len(some) for name, some in of.items()} == dict.fromkeys(names, 8)
    for name in names[:3]:
        for item, row in zip(of[name], tiny_tasks.ROWS, strict=True):
            assert isinstance(item.what, TaskItem)
            _, after = shown(tokeniser.example(item))
            assert after.strip() == row["choices"][row["answer"]]


def test_what_a_rule_checks_cannot_be_learnt():
    found, tokeniser = items("instructions_quick")
    with pytest.raises(InputError, match="no right answers"):
        tokeniser.example(found[0])
    assert tokeniser.prompt(found[0])


@pytest.mark.parametrize("chat", [True, False])
def test_rows_and_prompts_of_files(chat):
    asked = RowTurn("user", "Code?")
    row, prompt = Row((asked, RowTurn("assistant", "BR-7", True))), Prompt((asked,))
    found, tokeniser = items(chat=chat, files=[File("a", (row, prompt), "0")])
    before, after = shown(tokeniser.example(found[0]))
    if chat:
        assert (before, after) == (HEAD.format("Code?"), "BR-7<|im_end|>")
    else:
        assert (before, after) == ("Question: Code?\nAnswer:", " BR-7<|im_end|>")
    assert TOKENIZER.decode(tokeniser.prompt(found[1])) == before
    assert tokeniser.prompt(found[0]) is None
    assert found[0].key == found[1].key


def test_long_prompts_leave_room_and_long_rows_are_cut():
    long = "x" * 5_000
    prompt = Prompt((RowTurn("user", long),))
    row = Row((RowTurn("user", "Q"), RowTurn("assistant", long, True)))
    lost = Row((RowTurn("user", long), RowTurn("assistant", "A", True)))
    found, tokeniser = items(files=[File("a", (prompt, row, lost), "0")])
    assert len(tokeniser.prompt(found[0])) == 1_024 - 32
    assert TOKENIZER.decode(tokeniser.prompt(found[0])).endswith("<|im_start|>assistant\n")
    assert len(tokeniser.example(found[1]).ids) == 1_024
    assert tokeniser.example(found[2]) is None


def test_sources_take_turns():
    made = [MendItem(str(n), source, None) for source, count in (("a", 4), ("b", 1), ("c", 2))
            for n in range(count)]  # fmt: skip
    assert [item.source for item in in_turn(made)] == ["a", "b", "c", "a", "c", "a", "a"]
