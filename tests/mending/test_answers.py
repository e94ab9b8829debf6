"""Base's own answers: drawn, the same for the same seed, their end among what counts."""

import pytest

pytest.importorskip("lm_eval", reason="needs taia[eval]")

import tiny_models
from taia import SwitchableModel
from taia.evaluation.harness.encoder import Encoder
from taia.mending.answers import LENGTH, kept_examples
from taia.mending.items import MendItem, Tokeniser
from taia.mending.journal import Journal
from taia.mending.sources import Prompt, said_key
from taia.runtime.engine import Engine
from taia.training.data import Row, RowTurn

ASKED = [Prompt((RowTurn("user", f"Tell me of {word}."),)) for word in "one two three four".split()]
ROW = Row((RowTurn("user", "Code?"), RowTurn("assistant", "BR-7", True)))
END = frozenset({257, 259})


@pytest.fixture(scope="module")
def model():
    return SwitchableModel.wrap(tiny_models.lora(tiny_models.llama()))


def examples(model, folder, said=(), *, seed=0):
    engine = Engine(model, tiny_models.tokenizer())
    tokeniser = Tokeniser(Encoder(model.config, tiny_models.tokenizer()), LENGTH)
    journal = Journal(folder, {}, overwrite=False)
    items = [MendItem(said_key(one), "a", one) for one in said or ASKED]
    return kept_examples(items, tokeniser, engine, END, journal, seed=seed)


def test_they_follow_the_prompt_and_are_at_most_so_long(model, tmp_path):
    tokenizer = tiny_models.tokenizer()
    for example, asked in zip(examples(model, tmp_path), ASKED, strict=True):
        first = example.counted[0]
        assert tokenizer.decode(example.ids[:first]) == (
            f"<|im_start|>user\n{asked.turns[0].content}<|im_end|>\n<|im_start|>assistant\n"
        )
        assert example.counted == tuple(range(first, len(example.ids)))
        assert 1 <= len(example.counted) <= LENGTH + 1
        answer = example.ids[first:]
        assert not END & {*answer[:-1]}
        assert (len(answer) == LENGTH) or answer[-1] == min(END)


def test_they_are_of_base_whatever_mode_the_model_is_in(model, tmp_path):
    first = examples(model, tmp_path / "a")
    with model.mode("tuned"):
        assert examples(model, tmp_path / "b") == first


def test_seeds_draw_others_and_the_same_seed_the_same(model, tmp_path):
    one, again, other = (
        examples(model, tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert one == again
    assert one != other
    alone = examples(model, tmp_path / "d", ASKED[2:3])
    assert alone == one[2:3]


def test_known_answers_are_not_written_again(model, tmp_path, monkeypatch):
    before = examples(model, tmp_path)
    monkeypatch.setattr(
        Engine, "generate", lambda _, requests, __: pytest.fail("again") if requests else []
    )
    assert examples(model, tmp_path) == before


def test_rows_have_answers_of_their_own(model, tmp_path):
    (example,) = examples(model, tmp_path, [ROW])
    text = tiny_models.tokenizer().decode([example.ids[place] for place in example.counted])
    assert text == "BR-7<|im_end|>"
