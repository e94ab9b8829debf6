"""The model card of an output: what was done, and how to do it again.

It is published, so it tells nobody's folders: of a local path it has the last name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from taia.checkpoint.composition import Composition, MatchRow
from taia.checkpoint.locate import Located, home_written_out, is_hub_name, is_there
from taia.checkpoint.output.manifest import MANIFEST
from taia.checkpoint.reading import is_file, read_bytes
from taia.methods import Applied
from taia.text import markdown, one_line, printable

_PAPER: Final = "https://arxiv.org/abs/2405.20192"
_FORMULA: Final = "W = W_base + α · (W_tuned − W_base)"
#: A local path in a text: absolute, from a home, or from the folder that somebody was in.
_LOCAL: Final = re.compile(
    r"(?<![\w:/.\\<~-])(?:file://)?(?:(?:~|\.{1,2}|[A-Za-z]:)[/\\]|/[^\s/`'\"<>()|\[\],;]+/)"
    r"[^\s`'\"<>()|\[\],;]+"
)
_CACHED: Final = re.compile(r"models--([\w.-]+?--[\w.-]+)[/\\]snapshots[/\\]")


def checkpoint_card(done: Composition, base: Located | None, tuned: Located, made: str) -> str:
    """The card of a composed checkpoint, made by a command line of the inputs' names."""
    names = _name(base), _name(tuned)
    shown = [_code(name) for name in names]
    head = [
        "library_name: transformers",
        "base_model:",
        *(f"- {json.dumps(name)}" for name in names),
        "base_model_relation: merge",
        "tags:",
        "- taia",
    ]
    body = [
        f"{shown[1]} with a part of its fine-tuning taken back to {shown[0]}: {_FORMULA}, where "
        f"the selection {_code(done.selection)} gives every tensor its α ([TAIA]({_PAPER})).",
        *_method(done),
        "",
        "| component | tensors | parameters | from the base | from the tuned model | blended |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *(_line(row) for row in (*done.rows, done.total)),
        "",
        *_listed(done.notes, base, tuned),
    ]
    return _card(head, done, body, made, " The licences of both models apply.")


def adapter_card(
    done: Composition,
    base: Located | None,
    tuned: Located,
    made: str,
    *,
    trained_on: str | None,
    alone: bool,
) -> str:
    """The card of a filtered adapter. What its own card says of licence and so on comes along.

    Args:
        done: What was done.
        base: The base model, where it was given.
        tuned: The adapter.
        made: The command that did it.
        trained_on: What the adapter calls its base model.
        alone: Whether PEFT loads it without taia.
    """
    model = public(trained_on) if trained_on else base and called(base)
    known = {"library_name": "peft"}
    if model:
        known["base_model"] = json.dumps(model, ensure_ascii=False)
    head = [f"{key}: {value}" for key, value in known.items()]
    own = _inherited(tuned.path / "README.md", known)
    head += [without_paths(line, _paths(base, tuned)) for line in own]
    body = [
        f"The part of the adapter {_code(_name(tuned))} that the selection {_code(done.selection)} "
        f"keeps ([TAIA]({_PAPER})): {_FORMULA}."
        + (f" Its base model is {_code(model)}." if model else ""),
        *_method(done),
        "",
        "| component | tensors kept | tensors scaled | tensors left out |",
        "| --- | ---: | ---: | ---: |",
        *(
            f"| {row.component} | {row.tuned.tensors} | {row.blended.tensors} "
            f"| {row.base.tensors} |"
            for row in (*done.rows, done.total)
        ),
        "",
        *_listed(done.notes, base, tuned),
        "It loads as any PEFT adapter does:",
        "",
        "```python",
        *([] if alone else ["import taia.molora  # makes MoLoRA known to PEFT"]),
        "from peft import AutoPeftModelForCausalLM",
        "",
        f"model = AutoPeftModelForCausalLM.from_pretrained({_title(done)!r})",
        "```",
        "",
    ]
    return _card(head, done, body, made)


def _method(done: Composition) -> list[str]:
    if done.method is None:
        return []
    method = Applied.parse(done.method).method
    told = f"In place of the difference Δ stands what {_code(done.method)} makes of it"
    return ["", f"{told}: {method.title} ({method.source})."]


def _card(head: list[str], done: Composition, body: list[str], made: str, end: str = "") -> str:
    start = ["---", *head, "---", "", f"# {markdown(_title(done))}", ""]
    fence = "`" * max(3, _longest_ticks(made) + 1)
    how = ["Made with", "", f"{fence}sh", printable(made), fence, ""]
    return "\n".join(
        [*start, *body, *how, f"`{MANIFEST}` records the inputs and versions.{end}", ""]
    )


def _title(composition: Composition) -> str:
    return composition.output.name if composition.output else "OUTPUT"


def _name(located: Located | None) -> str:
    return "BASE" if located is None else located.repo or called(located)


def _code(words: str) -> str:
    """Words as Markdown's code, whatever is in them."""
    ticks = "`" * (_longest_ticks(words) + 1)
    space = " " if len(ticks) > 1 else ""
    return f"{ticks}{space}{one_line(words)}{space}{ticks}"


def _longest_ticks(words: str) -> int:
    return max(map(len, re.findall("`+", words)), default=0)


def _paths(*places: Located | None) -> list[str]:
    """Paths by which notes may call the inputs."""
    local = [place for place in places if place is not None and not place.repo]
    ways = [(place.given, str(place.path), str(place.path.resolve())) for place in local]
    return [path for way in ways for path in way]


def _listed(notes: Iterable[str], *places: Located | None) -> list[str]:
    lines = [f"- {markdown(without_paths(note, _paths(*places)))}" for note in notes]
    return [*lines, ""] if lines else []


def _line(row: MatchRow) -> str:
    total = row.total
    shares = (_percent(part.parameters, total.parameters) for part in (row.base, row.tuned))
    last = _percent(row.blended.parameters, total.parameters)
    return (
        f"| {row.component} | {total.tensors:,} | {total.parameters:,} | "
        f"{' | '.join(shares)} | {last} |"
    )


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "–"


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


# --- what may be said of where models lie -------------------------------------------------------


def called(place: Located) -> str:
    """What to call a model: its name on the hub, else its folder's; safe in a card."""
    return place.given if place.repo else last_name(str(place.path.resolve()))


def public(name: str) -> str:
    """A name that may be a path: one of the hub as it is, of a path its last name."""
    is_path = not is_hub_name(name) or is_there(home_written_out(name))
    return last_name(name) if is_path else name


def last_name(path: str) -> str:
    """A path's last name, or the model's where it lies in the hub's cache; safe in a card."""
    if cached := _CACHED.search(path):
        return cached.group(1).replace("--", "/", 1)
    name = re.split(r"[/\\]", path.rstrip("/\\."))[-1]
    return re.sub(r"[^\w.+@ -]", "_", name)


def without_paths(text: str, known: Iterable[str]) -> str:
    """A text in which every local path is its last name.

    Args:
        text: The text.
        known: Paths that may be in it, which do not all look like ones.
    """
    for path in sorted(known, key=len, reverse=True):
        inside = re.compile(rf"(?<![\w./\\-]){re.escape(path)}(?![\w-])")
        text = inside.sub(lambda found: last_name(found.group()), text)
    return _LOCAL.sub(lambda found: last_name(found.group()), text)
