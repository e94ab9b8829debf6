"""A tokenizer in GGUF: its tokens, merges and rule, and what llama.cpp cuts text into."""

import importlib.util
import json

import pytest
from gguf import GGUFReader, TokenType
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

import tiny_models
from taia.errors import InputError
from taia.export.gguf_tokenizer import vocabulary
from taia.export.run import export
from tiny_adapters import quiet

TEXTS = (
    "It's 12,345 km to Köln; we'll walk 7 days. Don't WE'LL run? [x]=3**2 --> ok…",
    "def f(x):\n\n\treturn x + 1  # comment\n   \n        indented  text \r\n end ",
    "Привет, мир! 你好，世界 1234567 🚀👩‍👩‍👧 ﬁn <b>x</b> 'tis ''quoted''",
    "a",
    "   ",
    "नमस्ते दुनिया",
)
#: Here llama.cpp's own rule is not the tokenizer's: it knows no combining marks.
WITHOUT_MARKS = ("tekken", "gpt-4o")
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def split(expression):
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(expression), "isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def by_digits():
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )


#: Name in GGUF → how text is cut, and whether a word that is a token is taken whole.
RULES = {
    "gpt-2": (lambda: pre_tokenizers.ByteLevel(add_prefix_space=False), False),
    "smollm": (by_digits, False),
    "qwen2": (lambda: split(QWEN2), False),
    "llama-bpe": (lambda: split(LLAMA3), True),
    "smaug-bpe": (lambda: split(LLAMA3), False),
    "tekken": (lambda: split(TEKKEN), True),
    "gpt-4o": (lambda: split(GPT4O), False),
}


def byte_level(cut, whole=False):
    """A tokenizer trained on the texts, with tokens of its own."""
    raw = Tokenizer(models.BPE(ignore_merges=whole))
    raw.pre_tokenizer = cut
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        TEXTS * 3, BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    raw.add_special_tokens(["<|end|>"])
    raw.add_tokens([AddedToken("<b>", normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|end|>")


def sentencepiece(first):
    """As transformers stores Llama 2's (with a space first) and Gemma's (without)."""
    raw = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    raw.pre_tokenizer = None
    steps = [normalizers.Replace(" ", "▁")]
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), *steps] if first else steps)
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    raw.train_from_iterator(
        [text.split()[0] if text.split() else "a" for text in TEXTS] + list(TEXTS[:2]),
        BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False),
    )
    tables = json.loads(raw.to_str())
    tables["added_tokens"] = [token for token in tables["added_tokens"] if token["id"] < 3]
    raw = Tokenizer.from_str(json.dumps(tables))
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def exported(folder, tokenizer, **options):
    config = {**tiny_models.LLAMA, "vocab_size": 512, "max_position_embeddings": 512}
    with quiet():
        tiny_models.model("llama", **config).save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")
    export(folder / "model", "gguf", folder / "out", outtype="f32", **options)
    return folder / "out" / "model.gguf"


def keys(file):
    return {key: field.contents() for key, field in GGUFReader(file).fields.items()}


def assert_cut_alike(file, tokenizer, texts=TEXTS):
    if importlib.util.find_spec("llama_cpp") is None:
        pytest.skip("llama-cpp-python is not installed")
    from llama_cpp import Llama

    model = Llama(str(file), vocab_only=True, verbose=False)
    for text in texts:
        assert model.tokenize(text.encode(), special=True) == tokenizer(text)["input_ids"], text
    model.close()


@pytest.mark.parametrize("rule", RULES)
def test_byte_level_bpe_by_its_rule(tmp_path, rule):
    cut, whole = RULES[rule]
    tokenizer = byte_level(cut(), whole)
    file = exported(tmp_path, tokenizer, verify=False)
    said = keys(file)
    assert said["tokenizer.ggml.model"] == "gpt2"
    assert said["tokenizer.ggml.pre"] == rule
    for token, number in tokenizer.get_vocab().items():
        assert said["tokenizer.ggml.tokens"][number] == token
    kinds = said["tokenizer.ggml.token_type"]
    assert kinds[tokenizer.convert_tokens_to_ids("<|end|>")] == TokenType.CONTROL
    assert kinds[tokenizer.convert_tokens_to_ids("<b>")] == TokenType.USER_DEFINED
    assert kinds[511] == TokenType.UNUSED
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    assert said["tokenizer.ggml.merges"] == [" ".join(pair) for pair in merges]
    assert said["tokenizer.ggml.eos_token_id"] == tokenizer.eos_token_id
    assert said["tokenizer.ggml.add_bos_token"] is False
    assert_cut_alike(file, tokenizer, TEXTS[:-1] if rule in WITHOUT_MARKS else TEXTS)


@pytest.mark.parametrize("first", [True, False])
def test_sentencepiece_with_and_without_a_space_first(tmp_path, first):
    tokenizer = sentencepiece(first)
    file = exported(tmp_path, tokenizer, verify=False)
    said = keys(file)
    assert said["tokenizer.ggml.model"] == "llama"
    assert said["tokenizer.ggml.add_space_prefix"] is first
    kinds = said["tokenizer.ggml.token_type"]
    assert kinds[:4] == [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL, TokenType.BYTE]
    scores = said["tokenizer.ggml.scores"]
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    made = [tokenizer.convert_tokens_to_ids("".join(pair)) for pair in merges]
    assert [scores[number] for number in made] == sorted((scores[n] for n in made), reverse=True)
    assert_cut_alike(file, tokenizer)


def test_the_chat_template_comes_along(tmp_path):
    said = keys(exported(tmp_path, tiny_models.tokenizer(), verify=False))
    assert said["tokenizer.chat_template"] == tiny_models.CHAT


@pytest.mark.parametrize(
    "cut",
    [
        lambda: split(r"\w+|\W+"),
        lambda: pre_tokenizers.ByteLevel(add_prefix_space=True),
        lambda: split(QWEN2.replace(r"\p{N}", r"\p{N}{1,2}", 1)),
        pre_tokenizers.Whitespace,
    ],
)
def test_a_rule_without_a_name_is_refused(tmp_path, cut):
    with pytest.raises(InputError, match="cuts text by a rule") as caught:
        exported(tmp_path, byte_level(cut()))
    assert "convert_hf_to_gguf.py" in caught.value.mend
    assert not (tmp_path / "out").exists()


def test_other_kinds_of_tokenizers_are_refused():
    raw = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    with pytest.raises(InputError, match="WordLevel"):
        vocabulary(PreTrainedTokenizerFast(tokenizer_object=raw), "it", 4)


def test_a_token_without_a_row_is_left_out_and_told_and_a_tokenizer_without_rows_is_refused():
    tokenizer = tiny_models.tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<extra>"]})
    assert vocabulary(tokenizer, "it", 260).lost == 1
    assert vocabulary(tokenizer, "it", 261).tokens[260] == "<extra>"
    with pytest.raises(InputError, match="256 tokens, and rows for 200"):
        vocabulary(tokenizer, "it", 200)


def test_without_a_tokenizer_it_is_said(tmp_path):
    with quiet():
        tiny_models.llama().save_pretrained(tmp_path / "model")
    done = export(tmp_path / "model", "gguf", tmp_path / "out", outtype="f32")
    assert any("no tokenizer" in note for note in done.notes)
    assert keys(tmp_path / "out" / "model.gguf")["tokenizer.ggml.model"] == "no_vocab"
