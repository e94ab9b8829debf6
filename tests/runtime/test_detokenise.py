"""Pieces of text against the whole text."""

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

import tiny_models
from taia.runtime.detokenise import Vocabulary

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\ufffd"), max_size=12)


@cache
def sentencepiece():
    """As Llama 2 has it: a space is ▁, the first of a text is no text, bytes are tokens."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words += ["▁", "a", "b", "▁a", "▁b", "▁▁"]
    raw = Tokenizer(
        models.BPE(
            vocab={word: index for index, word in enumerate(words)},
            merges=[("▁", "a"), ("▁", "b"), ("▁", "▁")],
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    raw.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


@cache
def vocabulary(kind):
    tokenizer = tiny_models.tokenizer() if kind == "bytes" else sentencepiece()
    return tokenizer, Vocabulary(tokenizer)


def ids_of(tokenizer, text):
    return tokenizer(text, add_special_tokens=False).input_ids


def written(kind, prompt, answer):
    """The pieces, one a token, and what was left at the end."""
    reader = vocabulary(kind)[1].after(prompt)
    return [*map(reader.push, answer), reader.flush()]


@pytest.mark.parametrize("kind", ["bytes", "sentencepiece"])
@settings(deadline=None)
@given(prompt=TEXTS, answer=TEXTS)
def test_pieces_make_the_text(kind, prompt, answer):
    tokenizer, _ = vocabulary(kind)
    whole = ids_of(tokenizer, prompt + answer)
    for cut in range(len(whole) + 1):
        pieces = written(kind, whole[:cut], whole[cut:])
        # Of a character that the cut goes through, the answer has the whole.
        heads = (tokenizer.decode(whole[:end]) for end in range(cut, -1, -1))
        start = next(head for head in heads if "\ufffd" not in head)
        assert start + "".join(pieces) == tokenizer.decode(whole) == prompt + answer
        assert not any("\ufffd" in piece for piece in pieces)


@pytest.mark.parametrize("kind", ["bytes", "sentencepiece"])
def test_text_comes_as_soon_as_a_character_is_whole(kind):
    tokenizer, _ = vocabulary(kind)
    prompt, answer = ids_of(tokenizer, "b"), ids_of(tokenizer, "b€a")[-4:]
    assert written(kind, prompt, answer) == ["", "", "€", "a", ""]


def test_the_space_between_prompt_and_answer_is_kept():
    tokenizer, _ = vocabulary("sentencepiece")
    [space_a] = ids_of(tokenizer, "a")
    assert tokenizer.decode([space_a]) == "a", "the decoder drops no space"
    end = tokenizer.eos_token_id
    assert written("sentencepiece", ids_of(tokenizer, "b"), [space_a]) == [" a", ""]
    assert written("sentencepiece", [*ids_of(tokenizer, "b"), end], [space_a]) == [" a", ""]
    assert written("sentencepiece", [tokenizer.bos_token_id], [space_a]) == ["a", ""]


@pytest.mark.parametrize("kind", ["bytes", "sentencepiece"])
def test_special_tokens_are_no_text(kind):
    tokenizer, vocabularies = vocabulary(kind)
    end = tokenizer.eos_token_id
    assert vocabularies.is_special(end)
    answer = ids_of(tokenizer, "a a")
    with_ends = [token for each in answer for token in (end, each)]
    start = ids_of(tokenizer, "b")
    assert "".join(written(kind, start, with_ends)) == "".join(written(kind, start, answer))


@pytest.mark.parametrize("kind", ["bytes", "sentencepiece"])
def test_half_a_character_comes_at_the_end_only(kind):
    tokenizer, _ = vocabulary(kind)
    half = ids_of(tokenizer, "a€")[:-1]
    *pieces, rest = written(kind, half[:1], half[1:])
    assert pieces == ["", ""]
    assert rest
    assert set(rest) == {"\ufffd"}


def test_bytes_that_spoil_a_character_do_not_take_it_back():
    """The decoder of byte tokens makes nothing of all bytes in a row if one is wrong."""
    tokenizer, _ = vocabulary("sentencepiece")
    euro = ids_of(tokenizer, "€")[-3:]
    wrong = tokenizer.convert_tokens_to_ids("<0xFF>")
    assert tokenizer.decode([*euro, wrong]).strip("\ufffd") == ""
    assert written("sentencepiece", euro, [*euro, wrong]) == ["", "", "€", "", "\ufffd"]
