"""The model card of an output: what was done, and how to do it again."""

from __future__ import annotations

import json
from pathlib import Path

from taia.checkpoint.composition import Composition, Row
from taia.checkpoint.locate import Located
from taia.checkpoint.manifest import MANIFEST, command

_PAPER = "https://arxiv.org/abs/2405.20192"


def write_card(
    folder: Path,
    composition: Composition,
    base: Located,
    tuned: Located,
    keep: str,
    flags: tuple[str, ...] = (),
) -> None:
    """Write ``README.md`` for a composed checkpoint.

    Args:
        folder: Where.
        composition: What was done.
        base: The base.
        tuned: The tuned model.
        keep: The selection as it was typed.
        flags: Further options of the command line that changed the result.
    """
    names = [located.repo or located.path.resolve().name for located in (base, tuned)]
    output = composition.output.name if composition.output else "OUTPUT"
    lines = [
        "---",
        "library_name: transformers",
        "base_model:",
        *(f"- {json.dumps(name)}" for name in names),
        "base_model_relation: merge",
        "tags:",
        "- taia",
        "---",
        "",
        f"# {output}",
        "",
        f"`{names[1]}` with a part of its fine-tuning taken back to `{names[0]}`: "
        "W = W_base + α · (W_tuned − W_base), where the selection "
        f"`{composition.selection}` gives every tensor its α ([TAIA]({_PAPER})).",
        "",
        "| component | tensors | parameters | from the base | from the tuned model | blended |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *(_line(row) for row in (*composition.rows, composition.total)),
        "",
        *(f"- {note}" for note in composition.notes),
        *([""] if composition.notes else []),
        "Made with",
        "",
        "```sh",
        command(base.given, tuned.given, keep, output, *flags),
        "```",
        "",
        f"`{MANIFEST}` records the inputs and versions. The licences of both models apply.",
        "",
    ]
    (folder / "README.md").write_text("\n".join(lines), "utf-8", "backslashreplace")


def _line(row: Row) -> str:
    total = row.total
    shares = (_percent(part.parameters, total.parameters) for part in (row.base, row.tuned))
    last = _percent(row.blended.parameters, total.parameters)
    return (
        f"| {row.component} | {total.tensors:,} | {total.parameters:,} | "
        f"{' | '.join(shares)} | {last} |"
    )


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "–"
