"""The files beside an adapter's tensors: its model card, its tokenizer, how it was made."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from taia.checkpoint.adapter_read import Adapter
from taia.checkpoint.composition import Composition

_COMPANIONS: Final = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
    "*.tiktoken",
    "chat_template*",
    "generation_config.json",
    "LICENSE*",
    "NOTICE*",
)


def is_companion(name: str) -> bool:
    """Whether a file of an adapter's folder comes along."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in _COMPANIONS)


def write_card(adapter: Adapter, folder: Path, composition: Composition) -> None:
    """Writes ``README.md``, with what the adapter's own card says of licence and language."""
    base = adapter.config.get("base_model_name_or_path") or ""
    head = {"base_model": base, "library_name": "peft"} if base else {"library_name": "peft"}
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()]
    lines += _inherited(adapter.folder / "README.md", head)
    body = [
        f"# {composition.selection} of an adapter",
        "",
        "W = W_base + α · (W_tuned − W_base), with α by the selection "
        f"`{composition.selection}`, made by taia from the adapter `{adapter.folder.name}`"
        + (f" of `{base}`." if base else "."),
        "",
        "| component | kept | changed | left out |",
        "| --- | --- | --- | --- |",
        *(
            f"| {row.component} | {row.tuned.tensors} | {row.blended.tensors} "
            f"| {row.base.tensors} |"
            for row in composition.rows
        ),
        "",
        "Tensors of the adapter, by what they change. It loads as any PEFT adapter does:",
        "",
        "```python",
        "from peft import AutoPeftModelForCausalLM",
        "",
        'model = AutoPeftModelForCausalLM.from_pretrained("THIS FOLDER")',
        "```",
    ]
    if composition.notes:
        body += ["", *(f"- {note}" for note in composition.notes)]
    text = "\n".join(["---", *lines, "---", "", *body, ""])
    (folder / "README.md").write_text(text, encoding="utf-8")


def _inherited(card: Path, known: Mapping[str, Any]) -> list[str]:
    """The other entries of a card's front matter, as they are."""
    try:
        text = card.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    if not text.startswith("---\n") or "\n---" not in text[4:]:
        return []
    lines: list[str] = []
    skip = True
    for line in text[4:].split("\n---", 1)[0].splitlines():
        if line[:1] not in (" ", "\t", "-", "#", ""):
            key = line.partition(":")[0].strip()
            skip = key in known
        if not skip:
            lines.append(line)
    return lines
