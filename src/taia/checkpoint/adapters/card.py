"""The files beside an adapter's tensors: its model card, and the record of how it was made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from taia.checkpoint.adapters.read import Adapter
from taia.checkpoint.composition import Composition
from taia.checkpoint.copying import Sources
from taia.checkpoint.index import ADAPTER_CONFIG
from taia.checkpoint.locate import Located
from taia.checkpoint.manifest import MANIFEST, blob_hash, command, origin, sampled_hash
from taia.checkpoint.reading import is_file, read_bytes

_PAPER: Final = "https://arxiv.org/abs/2405.20192"


def adapter_identity(located: Located, adapter: Adapter, full: bool = False) -> dict[str, Any]:
    """What an adapter is, for the record: where it came from and what its files hold.

    Args:
        located: Where it was found.
        adapter: What it is.
        full: Whether to read and hash every byte.
    """
    config = read_bytes(adapter.folder / ADAPTER_CONFIG)
    shard = adapter.shard
    with Sources() as sources:
        record: dict[str, Any] = {
            "name": shard.file.name,
            "bytes": shard.size,
            "sampled_sha256": sampled_hash(shard, sources),
        }
        whole = sources.digest(shard.file) if full else blob_hash(shard.file)
    if whole:
        record["sha256"] = whole
    files = [
        record,
        {
            "name": ADAPTER_CONFIG,
            "bytes": len(config),
            "sha256": hashlib.sha256(config).hexdigest(),
        },
    ]
    return {**origin(located), "files": files}


def write_adapter_card(
    folder: Path,
    composition: Composition,
    adapter: Adapter,
    located: Located,
    base: Located | None,
    keep: str,
    plain: bool,
) -> None:
    """Writes ``README.md`` for a filtered adapter.

    What the adapter's own card says of licence, language and so on comes along.

    Args:
        folder: Where.
        composition: What was done.
        adapter: The adapter it was done to.
        located: Where that was found.
        base: Its base model, where it was given.
        keep: The selection as it was typed.
        plain: Whether PEFT alone loads it, without taia.
    """
    name = located.repo or located.path.resolve().name
    model = adapter.config.get("base_model_name_or_path") or (base and (base.repo or base.given))
    head = {"library_name": "peft"}
    if model:
        head["base_model"] = json.dumps(str(model), ensure_ascii=False)
    output = composition.output.name if composition.output else "OUTPUT"
    made = command(base.given if base else "BASE", located.given, keep, output)
    lines = [
        "---",
        *(f"{key}: {value}" for key, value in head.items()),
        *_inherited(adapter.folder / "README.md", head),
        "---",
        "",
        f"# {output}",
        "",
        f"The part of the adapter `{name}` that the selection `{composition.selection}` keeps "
        f"([TAIA]({_PAPER})): W = W_base + α · (W_tuned − W_base)."
        + (f" Its base model is `{model}`." if model else ""),
        "",
        "| component | tensors kept | tensors scaled | tensors left out |",
        "| --- | ---: | ---: | ---: |",
        *(
            f"| {row.component} | {row.tuned.tensors} | {row.blended.tensors} "
            f"| {row.base.tensors} |"
            for row in (*composition.rows, composition.total)
        ),
        "",
        *(f"- {note}" for note in composition.notes),
        *([""] if composition.notes else []),
        "It loads as any PEFT adapter does:",
        "",
        "```python",
        *([] if plain else ["import taia.molora  # makes MoLoRA known to PEFT"]),
        "from peft import AutoPeftModelForCausalLM",
        "",
        f'model = AutoPeftModelForCausalLM.from_pretrained("{output}")',
        "```",
        "",
        "Made with",
        "",
        "```sh",
        made,
        "```",
        "",
        f"`{MANIFEST}` records the inputs and versions.",
        "",
    ]
    (folder / "README.md").write_text("\n".join(lines), "utf-8", "backslashreplace")


def _inherited(card: Path, known: Mapping[str, str]) -> list[str]:
    """The other entries of a card's front matter, as they are."""
    try:
        text = str(read_bytes(card), "utf-8") if is_file(card) else ""
    except UnicodeDecodeError:
        return []
    if not text.startswith("---\n") or "\n---" not in text[4:]:
        return []
    lines: list[str] = []
    skip = True
    for line in text[4:].split("\n---", 1)[0].splitlines():
        if line[:1] not in (" ", "\t", "-", "#", ""):
            skip = line.partition(":")[0].strip() in {*known, "base_model"}
        if not skip:
            lines.append(line)
    return lines
