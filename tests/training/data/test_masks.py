"""What counts to the loss: found by hand in the rendered text, for templates of real models."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chat_templates as ct
from taia.errors import DataError
from taia.training.data.row import Row, RowTurn
from taia.training.data.template import UnrenderedError
from taia.training.data.tokens import RowEncoder, Tokens


def chat(*said, learn=("assistant",)):
    return Row(tuple(RowTurn(role, text, role in learn) for role, text in said))


TWO = (
    ("user", " What is 2+2?\n"),
    ("assistant", "Four.\n"),
    ("user", "Été 你好?"),
    ("assistant", "Oui 你好, \n\nyes."),
)
SYSTEM = (("system", "Be kind."), *TWO)


def encoded(tokenizer, row, **options):
    return RowEncoder(tokenizer, **{"max_length": 10_000, **options}).encode([row])[0]


def counted(tokenizer, tokens):
    """The runs of tokens that count, decoded."""
    runs, run = [], []
    for token, counts in zip(tokens.input_ids.tolist(), tokens.counts.tolist(), strict=True):
        if counts:
            run.append(token)
        elif run:
            runs, run = [*runs, run], []
    return [tokenizer.decode(each) for each in [*runs, run] if each]


TRIMMED = ["Four.", "Oui 你好, \n\nyes."]
CHATML_ANSWERS = ["Four.\n<|im_end|>", "Oui 你好, \n\nyes.<|im_end|>"]
CASES = {
    "chatml": (
        ct.CHATML,
        "<|im_end|>",
        SYSTEM,
        ["Four.\n<|im_end|>", "Oui 你好, \n\nyes.<|im_end|>"],
    ),
    "chatml, its own system": (
        ct.CHATML,
        "<|im_end|>",
        TWO,
        ["Four.\n<|im_end|>", "Oui 你好, \n\nyes.<|im_end|>"],
    ),
    "llama 2": (ct.LLAMA2, "</s>", SYSTEM, [" Four. </s>", " Oui 你好, \n\nyes. </s>"]),
    "llama 3": (
        ct.LLAMA3,
        "<|eot_id|>",
        SYSTEM,
        ["Four.<|eot_id|>", "Oui 你好, \n\nyes.<|eot_id|>"],
    ),
    "mistral": (ct.MISTRAL, "</s>", SYSTEM, [" Four.\n</s>", " Oui 你好, \n\nyes.</s>"]),
    "gemma": (ct.GEMMA, "</s>", TWO, ["Four.<end_of_turn>", "Oui 你好, \n\nyes.<end_of_turn>"]),
    "qwen 3": (
        ct.QWEN3,
        "<|im_end|>",
        SYSTEM,
        ["Four.\n<|im_end|>", "<think>\n\n</think>\n\nOui 你好, \n\nyes.<|im_end|>"],
    ),
    "qwen 3, thinking": (
        ct.QWEN3,
        "<|im_end|>",
        (
            ("user", "a"),
            ("assistant", "<think>\nlong\n</think>\n\nb"),
            ("user", "c"),
            ("assistant", "<think>\nshort\n</think>\n\nd"),
        ),
        ["b<|im_end|>", "<think>\nshort\n</think>\n\nd<|im_end|>"],
    ),
    "zephyr": (ct.ZEPHYR, "</s>", SYSTEM, ["Four.\n</s>", "Oui 你好, \n\nyes.</s>"]),
    "uneven": (ct.UNEVEN, "</s>", SYSTEM, ["Four.\n</s>", "Oui 你好, \n\nyes.</s>"]),
    "phi 3": (ct.PHI3, "</s>", SYSTEM, ["Four.\n<|end|>", "Oui 你好, \n\nyes.<|end|>"]),
    "glm 4": (ct.GLM4, "</s>", SYSTEM, ["Four.\n<|user|>", "Oui 你好, \n\nyes.<|user|>"]),
    "marked": (
        ct.MARKED,
        "<|im_end|>",
        SYSTEM,
        ["Four.\n<|im_end|>", "Oui 你好, \n\nyes.<|im_end|>"],
    ),
    "none": (None, "</s>", TWO, [" Four.\n</s>", " Oui 你好, \n\nyes.</s>"]),
}


@pytest.mark.parametrize("name", CASES)
def test_answers_and_their_end_count_and_nothing_else(name):
    template, eos, said, expected = CASES[name]
    tokenizer = ct.chatting(template, eos)
    tokens = encoded(tokenizer, chat(*said))
    assert counted(tokenizer, tokens) == expected
    if template:
        messages = [{"role": role, "content": content} for role, content in said]
        whole = tokenizer.apply_chat_template(messages, tokenize=False)
        ids = tokenizer(whole, add_special_tokens=False).input_ids
        assert tokens.input_ids.tolist()[: len(ids)] == ids


def test_the_plain_form_is_what_scoring_asks():
    from taia.demo.questions import Question, encode

    tokenizer = ct.chatting(None)
    request = encode(tokenizer, Question("1", "k", "Why?", ("So.", "No."), 0))
    ids = encoded(tokenizer, chat(("user", "Why?"), ("assistant", "So."))).input_ids.tolist()
    assert ids == [*request.prompt, *request.options[0], tokenizer.eos_token_id]


def test_only_learnt_answers_count():
    tokenizer = ct.chatting(ct.CHATML, "<|im_end|>")
    turns = (RowTurn("user", "a"), RowTurn("assistant", "b"), RowTurn("user", "c"))
    tokens = encoded(tokenizer, Row((*turns, RowTurn("assistant", "d", True))))
    assert counted(tokenizer, tokens) == ["d<|im_end|>"]


def test_the_whole_row_counts_when_asked():
    tokenizer = ct.chatting(ct.CHATML, "<|im_end|>")
    tokens = encoded(tokenizer, chat(*TWO), train_on_prompt=True)
    assert tokens.counts.tolist() == [False] + [True] * (len(tokens.input_ids) - 1)


def test_text_counts_whole_and_a_completion_alone():
    tokenizer = ct.chatting(ct.CHATML, "<|im_end|>")
    text = encoded(tokenizer, Row((RowTurn("text", "abc", True),), chat=False))
    assert tokenizer.decode(text.input_ids) == "abc<|im_end|>"
    assert text.counts.tolist() == [False, True, True, True]  # nothing predicts the first
    pair = Row((RowTurn("text", "2+2="), RowTurn("text", "4", True)), chat=False)
    assert counted(tokenizer, encoded(tokenizer, pair)) == ["4<|im_end|>"]
    ended = Row((RowTurn("text", "2+2="), RowTurn("text", "4<|im_end|>", True)), chat=False)
    assert (
        encoded(tokenizer, ended).input_ids.tolist() == encoded(tokenizer, pair).input_ids.tolist()
    )


@pytest.mark.parametrize(
    ("template", "said", "why"),
    [
        (ct.GEMMA, SYSTEM, "System role not supported"),
        (ct.LLAMA2, (TWO[0], *TWO), "roles must alternate"),
        (ct.PHI3, (*TWO, ("tool", "x"), ("assistant", "y")), r"leaves out message 5 \(tool\)"),
        (ct.ENDLESS, TWO, "ends an answer with nothing"),
        (ct.REWORDING, TWO, "changes the messages"),
        (
            "{% for m in messages %}{{ m.content.split('</think>')[-1] + '</s>' }}{% endfor %}",
            (("user", "a"), ("assistant", "<think>why</think>b")),
            "leaves out the reasoning of message 2",
        ),
    ],
)
def test_what_cannot_be_verified_is_refused(template, said, why):
    refused = encoded(ct.chatting(template), chat(*said))
    assert isinstance(refused, UnrenderedError)
    with pytest.raises(UnrenderedError, match=why):
        raise refused


def test_a_tokenizer_whose_places_are_wrong_is_caught(monkeypatch):
    tokenizer = ct.chatting(ct.CHATML, "<|im_end|>")
    encoder = RowEncoder(tokenizer, max_length=1000)
    kind = type(tokenizer)
    honest = kind.__call__

    def lying(self, *args, **kwargs):
        coded = honest(self, *args, **kwargs)
        if kwargs.get("return_offsets_mapping") and isinstance(args[0], list):
            coded["offset_mapping"] = [
                [(start + 2, end + 2) for start, end in row] for row in coded["offset_mapping"]
            ]
        return coded

    monkeypatch.setattr(kind, "__call__", lying)
    with pytest.raises(DataError, match="places are wrong"):
        encoder.encode([chat(*TWO)])


def test_cut_rows_keep_their_head_and_rows_without_an_answer_are_dropped():
    tokenizer = ct.chatting(ct.CHATML, "<|im_end|>")
    row = chat(("user", "a" * 50), ("assistant", "b" * 50))
    whole = encoded(tokenizer, row)
    first = whole.counts.tolist().index(True)
    for length, kept in ((first + 1, True), (first, False)):
        tokens = encoded(tokenizer, row, max_length=length)
        assert isinstance(tokens, Tokens) == kept
    cut = encoded(tokenizer, row, max_length=first + 10)
    assert cut.cut
    assert cut.input_ids.tolist() == whole.input_ids.tolist()[: first + 10]
    assert cut.counts.sum() == 10
    assert not whole.cut
    assert encoded(tokenizer, row, max_length=first + 10, truncation="drop") is None
    assert encoded(tokenizer, row, max_length=len(whole.input_ids), truncation="drop") is not None


WORDS = st.text(st.sampled_from("ab \n<|>é你[/INST]"), min_size=1, max_size=12).filter(str.strip)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=3), st.sampled_from(sorted(CASES)))
def test_any_contents_give_their_answers_or_are_refused(pairs, name):
    template, eos, *_ = CASES[name]
    tokenizer = TOKENIZERS.setdefault(name, ct.chatting(template, eos))
    said = [turn for q, a in pairs for turn in (("user", q), ("assistant", a))]
    tokens = encoded(tokenizer, chat(*said))
    if isinstance(tokens, UnrenderedError):
        return
    runs = counted(tokenizer, tokens)
    assert len(runs) == len(pairs)
    for run, (_, answer) in zip(runs, pairs, strict=True):
        body = run.removeprefix("<think>\n\n</think>\n\n").strip()
        assert body[: len(answer.strip())] == answer.strip()
        assert tokenizer(body[len(answer.strip()) :].strip(), add_special_tokens=False).input_ids


TOKENIZERS: dict = {}
