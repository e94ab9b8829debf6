"""Writes docs/architectures.md: what anatomy says of every architecture in transformers.

``python scripts/make_architectures.py`` rewrites it; a test checks every row where that version of
transformers is installed. ``--adapters`` rewrites its last section alone, which builds no model.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Final

import transformers

from taia.anatomy import Anatomy, Label
from taia.anatomy.components import FEED_FORWARD
from zoo import VISION_LANGUAGE, Specimen, build_vision_language, model_types, specimens

PAGE: Final = Path(__file__).parents[1] / "docs" / "architectures.md"

_HEAD: Final = """# Architectures

Every causal language model of transformers {version}: {count} of {count} are labelled completely,
by the names they have in memory and by the names they have on disk. (The authors' code covers two:
Qwen1.5 and Llama.) Written by `python scripts/make_architectures.py`; the test suite builds each
one without weights, checks its labels against the classes of its modules and, with this version,
its row here.

*Heads* says how far a layer's attention can be told apart: `yes` where every self-attention layer
divides into query heads, `some` where some do, `no` where rows are left whole. `TAIA` has something
to drop wherever there is a feed-forward block.

{table}"""

_VISION_HEAD: Final = """
## Models that read images too

The text tower is labelled as a text model of its kind is; the image encoder is `vision` (an audio
encoder `audio`), whatever it is built of, and what leads from it to the text is `projector`. So
`mlp` and `attention` mean the text tower, and so do the names of projections: `q_proj` is the text
tower's, `vision.q_proj` the image encoder's. `all - mlp`, which is TAIA, keeps what was trained of
the encoder and the projector; `all - mlp - vision - projector` leaves them as they were.

Checked are the {count} below; many more of transformers' models are labelled too, and what is not
is refused by name.

{table}"""

_TABLE: Final = """| model type | attention | feed-forward | heads | other |
| --- | --- | --- | --- | --- |
"""

_ADAPTERS_TITLE: Final = "\n## Adapters of them, tried one by one\n"
_ADAPTERS_HEAD: Final = """
The battery in `tests/battery` makes a tiny random model of each family below, has PEFT put an
adapter of each kind on it, and asks for three things: the filtered adapter (*a*), the merged
checkpoint (*m*) and the live model's modes (*l*). PEFT and transformers say what is right: filtered
adapters and live modes give the same logits bit for bit as PEFT with the dropped updates taken out
by hand; in a merged bfloat16 checkpoint each weight is PEFT's float32 merge to one unit in the last
place, and in float32 the logits agree to rounding. The adapters are float32, on bases in bfloat16
and float32. {cells} cells of {families} families and {kinds} kinds are checked, and so is that
`PEFT cannot`.

| family | {names} |
|{rules}
"""

_VERSION: Final = re.compile(r"of transformers (\S+):")

_USUAL: Final = {"attention", "norm", "embedding", "head", *FEED_FORWARD}


def row(specimen: Specimen) -> str:
    """One line of the table."""
    labels = list(Anatomy.of_model(specimen.model).values())
    attention = Counter(str(x.block).removesuffix("_attention") for x in _of(labels, "attention"))
    feed_forward = [kind for kind in FEED_FORWARD if any(_of(labels, kind))]
    other = sorted({label.component for label in labels} - _USUAL)
    cells = (
        f"`{specimen.model_type}`",
        ", ".join(sorted(attention)) or "none",
        ", ".join(feed_forward) or "none: each layer is one mixer",
        _heads(labels),
        ", ".join(other),
    )
    return f"| {' | '.join(cells)} |"


def _of(labels: Iterable[Label], component: str) -> Iterable[Label]:
    return (label for label in labels if label.component == component)


def _heads(labels: list[Label]) -> str:
    layers = {(x.stack, x.layer): False for x in labels if x.block == "self_attention"}
    for label in labels:
        if label.layout and any(s.role == "q_proj" and s.heads for s in label.layout.segments):
            layers[label.stack, label.layer] = True
    if not any(layers.values()):
        return "no"
    return "yes" if all(layers.values()) else "some"


def main() -> None:
    """Writes the page."""
    text = _HEAD.format(
        version=transformers.__version__, count=len(model_types()), table=_table(specimens())
    )
    seeing = map(build_vision_language, VISION_LANGUAGE)
    text += _VISION_HEAD.format(count=len(VISION_LANGUAGE), table=_table(seeing))
    PAGE.write_text(text + adapters(), encoding="utf-8")


def write_adapters() -> None:
    """Writes the page's last section anew, and leaves the others as they are."""
    before, _, _ = PAGE.read_text("utf-8").partition(_ADAPTERS_TITLE)
    PAGE.write_text(before + adapters(), encoding="utf-8")


def adapters() -> str:
    """What the battery of tests covers, from its own tables."""
    sys.path.append(str(PAGE.parents[1] / "tests"))
    families = import_module("battery.families").FAMILIES
    kinds = import_module("battery.kinds")

    def cell(family: str, kind: str) -> str:
        return "PEFT cannot" if (family, kind) in kinds.IMPOSSIBLE else "aml"

    cells = len(families) * len(kinds.KINDS) - len(kinds.IMPOSSIBLE)
    text = _ADAPTERS_TITLE + _ADAPTERS_HEAD.format(
        cells=3 * cells,
        families=len(families),
        kinds=len(kinds.KINDS),
        names=" | ".join(kinds.KINDS),
        rules=" --- |" * (len(kinds.KINDS) + 1),
    )
    for family in families:
        text += f"| {family} | {' | '.join(cell(family, kind) for kind in kinds.KINDS)} |\n"
    return text


def _table(found: Iterable[Specimen]) -> str:
    table = _TABLE
    for specimen in found:
        table += f"{row(specimen)}\n"
        print(specimen.model_type, file=sys.stderr, flush=True)
    return table


def rows(seeing: bool = False) -> Mapping[str, str]:
    """Model type → the page's line of it, as it stands.

    Args:
        seeing: Whether of the table of models that read images too.
    """
    lines = PAGE.read_text("utf-8").split("\n## ")[int(seeing)].splitlines()
    return {line.split("`")[1]: line for line in lines if line.startswith("| `")}


def version() -> str:
    """The version of transformers that the page was written with."""
    found = _VERSION.search(PAGE.read_text("utf-8"))
    if found is None:
        raise SystemExit(f"{PAGE} names no version of transformers; write it again")
    return found[1]


if __name__ == "__main__":
    write_adapters() if sys.argv[1:] == ["--adapters"] else main()
