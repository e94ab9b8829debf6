"""The small files of a model folder, and from which side each comes.

The tokenizer, chat template and generation config are the tuned model's when anything of it is
kept: its attention was trained on its template and ends with its tokens. They come as one group,
never some of either side. Licences are the base's. Pickles, code, training state and taia's own
records never come along.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from taia.checkpoint import reading

#: Any of these makes a tokenizer.
_TOKENIZERS: Final = (
    "tokenizer.json",
    "tokenizer.model",
    "tekken.json",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "*.tiktoken",
)
_TOKENIZER_GROUP: Final = (
    *_TOKENIZERS,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
)
_GENERATION: Final = ("generation_config.json",)
_BASE_GROUP: Final = (
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "LICENSE*",
    "LICENCE*",
    "NOTICE*",
    "USE_POLICY*",
)


def has_tokenizer(folder: Path) -> bool:
    """Whether a tokenizer could be loaded from a folder."""
    return bool(_find(folder, _TOKENIZERS))


def beside(base: Path, tuned: Path, tokens_tuned: bool) -> tuple[dict[str, Path], list[str]]:
    """The files to copy beside the weights, tokens' among them from either folder.

    Returns:
        Name in the output → file; and notes.

    Raises:
        CheckpointError: If one of them is a device, or a link that leaves its folder.
    """
    tokens, other = (tuned, base) if tokens_tuned else (base, tuned)
    found = _find(base, _BASE_GROUP) | _find(tokens, _TOKENIZER_GROUP)
    found |= _find(tokens, _GENERATION) or _find(other, _GENERATION)
    notes = []
    code = sorted({file.name for folder in (base, tuned) for file in folder.glob("*.py")})
    if code:
        notes.append(
            f"Code is not copied ({', '.join(code)}): a model that needs it must be given it by "
            "hand."
        )
    return found, notes


def copy(files: Mapping[str, Path], folder: Path) -> None:
    """Copy files, following links within their folders, into a folder.

    Raises:
        CheckpointError: If a file is none that may be opened.
    """
    for name, file in files.items():
        target = folder / name
        target.parent.mkdir(exist_ok=True)
        found_in = file.parents[len(Path(name).parts) - 1]
        reading.copy(file, target, found_in)


def _find(folder: Path, patterns: tuple[str, ...]) -> dict[str, Path]:
    return {
        str(file.relative_to(folder)): file
        for pattern in patterns
        for file in sorted(folder.glob(pattern))
        if file.suffix not in (".py", ".bin", ".pt", ".pth", ".pkl")
        and reading.is_file(file, folder)
    }
