"""Single tokens as text and bytes, for both families of vocabularies."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import tiny_models
from taia.serving.texts import TokenTexts


def sentencepiece():
    """As Llama 2 has it: a mark for spaces, and a token for each byte that has no other."""
    tokens = ["<unk>", "▁the", "▁", "a", *(f"<0x{byte:02X}>" for byte in range(256))]
    raw = Tokenizer(
        models.BPE({token: i for i, token in enumerate(tokens)}, [], byte_fallback=True)
    )
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
         decoders.Strip(" ", 1, 0)]
    )  # fmt: skip
    return PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>")


@pytest.mark.parametrize("text", ["plain", "Größe", "€ 5", "日本", "🦙"])
def test_bytes_of_the_tokens_are_the_bytes_of_the_text(text):
    tokenizer = tiny_models.tokenizer()
    texts = TokenTexts(tokenizer)
    assert b"".join(texts.raw(token) for token in tokenizer.encode(text)) == text.encode()


def test_every_byte_has_its_token():
    texts = TokenTexts(tiny_models.tokenizer())
    assert {texts.raw(token) for token in range(256)} == {bytes([byte]) for byte in range(256)}


def test_parts_of_characters_are_told_apart():
    tokenizer = tiny_models.tokenizer()
    texts = TokenTexts(tokenizer)
    assert [texts.shown(token) for token in tokenizer.encode("a€")] == [
        "a", "bytes:\\xe2", "bytes:\\x82", "bytes:\\xac",
    ]  # fmt: skip


def test_a_leading_space_is_kept():
    tokenizer = sentencepiece()
    assert tokenizer.decode([1]) == "the"  # the control: a first token loses it
    assert TokenTexts(tokenizer).text(1) == " the"


def test_bytes_of_sentencepiece():
    texts = TokenTexts(sentencepiece())
    assert texts.raw(4 + 0xE2) == b"\xe2"
    assert texts.raw(4 + 0x41) == b"A"


def test_special_tokens_have_their_names():
    assert TokenTexts(tiny_models.tokenizer()).shown(257) == "<|im_end|>"
