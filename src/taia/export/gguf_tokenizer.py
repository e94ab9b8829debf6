"""A tokenizer in GGUF, from its own tables: byte-level BPE, or SentencePiece's BPE.

llama.cpp has the rules by which text is cut before BPE in its code, by name. The names are found by
the rule itself, as tokenizer.json states it, not by the model.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from taia.checkpoint.locate import Located
from taia.errors import CheckpointError, InputError
from taia.loading.models import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_WORDS: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST: Final = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER: Final = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER: Final = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_LATER: Final = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SHORT: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
#: The expression that cuts text, and whether words that are tokens are taken whole → the name.
_CUTS: Final[Mapping[tuple[str, bool], str]] = {
    (rf"{_WORDS}|\p{{N}}{{1,3}}{_REST}", True): "llama-bpe",
    (rf"{_WORDS}|\p{{N}}{{1,3}}{_REST}", False): "smaug-bpe",
    (rf"{_WORDS}|\p{{N}}{_REST}", False): "qwen2",
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
        r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        False,
    ): "qwen35",
    (rf"{_UPPER}*{_LOWER}+|{_UPPER}+{_LOWER}*|\p{{N}}|{_LATER}", True): "tekken",
    (
        rf"{_UPPER}*{_LOWER}+{_SHORT}|{_UPPER}+{_LOWER}*{_SHORT}|\p{{N}}{{1,3}}|{_LATER}",
        False,
    ): "gpt-4o",
}
_SPACE: Final = "▁"
_MEND: Final = "Use llama.cpp's convert_hf_to_gguf.py for it, or export it --to transformers."


@dataclass(frozen=True, slots=True)
class GgufVocabulary:
    """A tokenizer as GGUF has it.

    Attributes:
        model: "gpt2" for byte-level BPE, "llama" for SentencePiece's.
        pre: The name of the rule that cuts text.
        tokens: By id.
        kinds: By id, as ``gguf.TokenType``.
        scores: By id, the higher the sooner merged; SentencePiece's only.
        space_first: Whether text is given a space before it; ``None`` where that is not asked.
        merged: Whether there is a list of merges to go with it.
        lost: How many tokens have no row of the embedding.
    """

    model: str
    pre: str
    tokens: tuple[str, ...]
    kinds: tuple[int, ...]
    scores: tuple[float, ...] = ()
    space_first: bool | None = None
    merged: bool = False
    lost: int = 0


def add_tokenizer(writer: Any, place: Located, rows: int) -> tuple[str, ...]:  # noqa: ANN401 - gguf's
    """Writes a model's tokenizer and chat template with a ``gguf.GGUFWriter``.

    Args:
        writer: The writer.
        place: The model.
        rows: Of its embedding: tokens beyond have none and are left out.

    Returns:
        What a careful reader would want to know.

    Raises:
        InputError: If llama.cpp has no such tokenizer, or taia cannot say so.
    """
    import gguf

    tokenizer = tokenizer_of(place)
    if tokenizer is None:
        writer.add_tokenizer_model("no_vocab")
        return ("There is no tokenizer: llama.cpp takes tokens, not text.",)
    found = vocabulary(tokenizer, place.given, rows)
    writer.add_tokenizer_model(found.model)
    writer.add_tokenizer_pre(found.pre)
    writer.add_token_list(list(found.tokens))
    writer.add_token_types(list(found.kinds))
    if found.scores:
        writer.add_token_scores(list(found.scores))
    if found.space_first is not None:
        writer.add_add_space_prefix(found.space_first)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)  # in one layout, whatever the model's files are
        special = gguf.SpecialVocab(folder, load_merges=found.merged, n_vocab=rows)
    ids = tokenizer("a")["input_ids"]
    for name, at in (("bos", 0), ("eos", -1)):
        token = getattr(tokenizer, f"{name}_token_id")
        special.add_special_token[name] = token is not None and ids[at] == token
    if found.model == "gpt2" and not found.merged:
        # llama.cpp wants a list that is not empty. What is merged to no token it takes apart again.
        special.merges = [" ".join(found.tokens[:2])]
    special.add_to_gguf(writer, quiet=True)
    if not found.lost:
        return ()
    return (f"{found.lost} of the tokenizer's tokens have no row in the model and are left out.",)


def tokenizer_of(place: Located) -> PreTrainedTokenizerBase | None:
    """A model's tokenizer, ``None`` if it has none: transformers makes an empty one for some."""
    try:
        tokenizer = load_tokenizer(place)
    except CheckpointError:
        return None
    return tokenizer if tokenizer("a")["input_ids"] else None


def vocabulary(tokenizer: PreTrainedTokenizerBase, given: str, rows: int) -> GgufVocabulary:
    """A tokenizer as GGUF has it.

    Args:
        tokenizer: The tokenizer.
        given: What to call its model.
        rows: Of the embedding; ids up to there that no token has are filled up.

    Raises:
        InputError: If llama.cpp has no such tokenizer, or taia cannot say so.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise InputError(f"{given} has a tokenizer without tokenizer.json.", _MEND)
    tables = json.loads(backend.to_str())
    if tables["model"].get("type") != "BPE":
        kind = tables["model"].get("type")
        raise InputError(f"{given} has a {kind} tokenizer; taia writes BPE as GGUF.", _MEND)
    if tables["model"].get("byte_fallback"):
        return _sentencepiece(tables, given, rows)
    tokens, kinds, lost = _tokens(tables, given, rows)
    pre, merged = _cut(tables, given), bool(tables["model"]["merges"])
    return GgufVocabulary("gpt2", pre, tokens, kinds, merged=merged, lost=lost)


def _tokens(
    tables: Mapping[str, Any], given: str, rows: int
) -> tuple[tuple[str, ...], tuple[int, ...], int]:
    """Tokens and their kinds by id, and how many there are beyond the last row."""
    from gguf import TokenType

    by_id = {number: token for token, number in tables["model"]["vocab"].items()}
    added = {token["id"]: token for token in tables.get("added_tokens", ())}
    if (most := max(by_id.keys() - added.keys(), default=0)) >= rows:
        raise InputError(
            f"{given} has a tokenizer with {most + 1:,} tokens, and rows for {rows:,}.",
            "Give the tokenizer that belongs to the model.",
        )
    tokens, kinds = [], []
    for number in range(rows):
        if number in added:
            tokens.append(added[number]["content"])
            special = added[number]["special"]
            kinds.append(TokenType.CONTROL if special else TokenType.USER_DEFINED)
        elif number in by_id:
            tokens.append(by_id[number])
            kinds.append(TokenType.NORMAL)
        else:
            tokens.append(f"[PAD{number}]")
            kinds.append(TokenType.UNUSED)
    lost = sum(number >= rows for number in {*by_id, *added})
    return tuple(tokens), tuple(kinds), lost


def _cut(tables: Mapping[str, Any], given: str) -> str:
    """The name of the rule that cuts text before BPE."""
    steps = _steps(tables.get("pre_tokenizer"), "pretokenizers")
    levels = [step for step in steps if step["type"] == "ByteLevel"]
    others = [step for step in steps if step["type"] != "ByteLevel"]
    whole = bool(tables["model"].get("ignore_merges"))
    plain = {step["type"] for step in _steps(tables.get("normalizer"), "normalizers")} <= {"NFC"}
    if len(levels) == 1 and plain and not levels[0].get("add_prefix_space"):
        if levels[0].get("use_regex", True):
            if not others and not whole:
                return "gpt-2"
            digits = [{"type": "Digits", "individual_digits": True}]
            if others == digits and not whole:
                return "smollm"
        elif len(others) == 1 and others[0]["type"] == "Split":
            name = _CUTS.get((others[0]["pattern"].get("Regex", ""), whole))
            if name and others[0]["behavior"] == "Isolated" and not others[0]["invert"]:
                return name
        elif not others and not tables["model"]["merges"]:
            return "gpt-2"  # nothing is merged, so it is of no matter where text is cut
    raise InputError(
        f"{given} has a tokenizer that cuts text by a rule taia has no GGUF name for.", _MEND
    )


def _sentencepiece(tables: Mapping[str, Any], given: str, rows: int) -> GgufVocabulary:
    from gguf import TokenType

    tokens, kinds, lost = _tokens(tables, given, rows)
    steps = [
        *_steps(tables.get("normalizer"), "normalizers"),
        *_steps(tables.get("pre_tokenizer"), "pretokenizers"),
    ]
    known = {"Prepend", "Replace", "Metaspace", "Split"}
    if not {step["type"] for step in steps} <= known or not _spaces(steps):
        raise InputError(
            f"{given} has a SentencePiece tokenizer that changes text before it is cut.", _MEND
        )
    first = any(
        step["type"] == "Prepend" or step.get("prepend_scheme") in ("always", "first")
        for step in steps
    )
    unknown = tables["model"].get("unk_token")
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(tables["model"]["merges"]):
        ranks.setdefault("".join(merge if isinstance(merge, list) else merge.split(" ")), rank)
    of_bytes = {f"<0x{byte:02X}>" for byte in range(256)}
    found, scores = [], []
    for token, kind in zip(tokens, kinds, strict=True):
        if token == unknown:
            kind = TokenType.UNKNOWN
        elif token in of_bytes and kind == TokenType.NORMAL:
            kind = TokenType.BYTE
        found.append(kind)
        scores.append(-float(ranks[token]) if token in ranks else -1e9)
    text = tuple(
        token.replace(_SPACE, " ") if kind == TokenType.USER_DEFINED else token
        for token, kind in zip(tokens, found, strict=True)
    )
    return GgufVocabulary("llama", "default", text, tuple(found), tuple(scores), first, lost=lost)


def _spaces(steps: list[Mapping[str, Any]]) -> bool:
    """Whether spaces become ▁, and nothing else changes."""
    changed = [
        step["content"] == _SPACE and step["pattern"] == {"String": " "}
        for step in steps
        if step["type"] == "Replace"
    ]
    metaspace = [s.get("replacement") == _SPACE for s in steps if s["type"] == "Metaspace"]
    split = [
        s["pattern"] == {"String": " "} and s["behavior"] in ("MergedWithPrevious", "Isolated")
        for s in steps
        if s["type"] == "Split"
    ]
    return all(changed + metaspace + split) and len(changed + metaspace) > 0


def _steps(stage: Mapping[str, Any] | None, inner: str) -> list[Mapping[str, Any]]:
    if stage is None:
        return []
    return list(stage[inner]) if stage["type"] == "Sequence" else [stage]
