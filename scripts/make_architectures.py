"""Writes docs/architectures.md: what anatomy says of every architecture in transformers.

``python scripts/make_architectures.py`` rewrites it; a test checks every row.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import transformers

from taia.anatomy import Anatomy, Label
from taia.anatomy.components import FEED_FORWARD
from zoo import Specimen, model_types, specimens

PAGE: Final = Path(__file__).parents[1] / "docs" / "architectures.md"

_NO_FEED_FORWARD: Final = {
    "falcon_mamba": "state space only; each layer is one mixer",
    "mamba": "state space only; each layer is one mixer",
    "mamba2": "state space only; each layer is one mixer",
}

_HEAD: Final = """# Architectures

Every causal language model of transformers {version}: {count} of {count} are labelled completely,
by the names they have in memory and by the names they have on disk. (The authors' code covers two:
Qwen1.5 and Llama.) Written by `python scripts/make_architectures.py`; the test suite builds each
one without weights and checks its row.

*Heads* says how far a layer's attention can be told apart: `yes` where every self-attention layer
divides into query heads, `some` where some do, `no` where rows are left whole. `TAIA` has something
to drop wherever there is a feed-forward block.

| model type | attention | feed-forward | heads | other |
| --- | --- | --- | --- | --- |
"""

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
        ", ".join(feed_forward) or f"none: {_NO_FEED_FORWARD[specimen.model_type]}",
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
    rows = []
    for specimen in specimens():
        rows.append(row(specimen))
        print(rows[-1], file=sys.stderr, flush=True)
    head = _HEAD.format(version=transformers.__version__, count=len(model_types()))
    PAGE.write_text(head + "\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
