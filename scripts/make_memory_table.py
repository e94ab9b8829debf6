"""Writes the memory tables of docs/distributed.md.

``python scripts/make_memory_table.py`` rewrites them; ``--check`` only says whether they are
current.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from taia.training.forecast.estimate import PlannedRun, RunNeeds, estimate
from taia.training.forecast.shape import Shape
from taia.training.recipe import Technique

PAGE: Final = Path(__file__).parents[1] / "docs" / "distributed.md"
BEGIN: Final = "<!-- memory tables: written by scripts/make_memory_table.py -->\n"
END: Final = "<!-- end of the memory tables -->\n"

#: From each model's config.json.
MODELS: Final = {
    "SmolLM2-135M": Shape(30, 576, 1536, 9, 3, 64, 49152, tied=True),
    "Qwen1.5-1.8B": Shape(24, 2048, 5504, 16, 16, 128, 151936),
    "LLaMA2-7B": Shape(32, 4096, 11008, 32, 32, 128, 32000),
    "LLaMA3-8B": Shape(32, 4096, 14336, 32, 8, 128, 128256),
    "Qwen1.5-14B": Shape(40, 5120, 13696, 40, 40, 128, 152064),
    "Qwen1.5-32B": Shape(64, 5120, 27392, 40, 8, 128, 152064),
    "LLaMA3-70B": Shape(80, 8192, 28672, 64, 8, 128, 128256),
}
TECHNIQUES: Final[tuple[tuple[str, Technique], ...]] = (
    ("full", "full"),
    ("LoRA", "lora"),
    ("QLoRA", "qlora"),
    ("MoLoRA", "molora"),
)
GPUS: Final = (1, 2, 4, 8, 16, 32)
LENGTH: Final = 3072
RANK: Final = 16
EXPERTS: Final = 4
GIGABYTE: Final = 10**9
#: Of an 80 GB card, what is left beside the runtime and what the allocator cannot use.
ROOM: Final = 72 * GIGABYTE


def trained(shape: Shape, technique: Technique) -> dict[str, int]:
    """What trains, per component, as the tables have it."""
    if technique == "full":
        return shape.parameters()
    return shape.molora(RANK, EXPERTS) if technique == "molora" else shape.lora(RANK)


def need(shape: Shape, technique: Technique, gpus: int) -> RunNeeds:
    """What each of some GPUs needs for one row of the paper's length."""
    run = PlannedRun(
        technique,
        batch=1,
        length=LENGTH,
        rows=gpus,
        processes=gpus,
        sharding="fsdp" if gpus > 1 else "none",
        checkpointing=True,
    )
    return estimate(shape.parameters(), trained(shape, technique), shape, run)


def tables() -> str:
    """Both tables, between their marks."""
    lines = [
        BEGIN,
        f"Each GPU's gigabytes (10⁹ bytes) with one row of {LENGTH} tokens, FSDP from two GPUs on:",
        "",
        f"| model | technique | trained | {' | '.join(map(str, GPUS))} | 80 GB cards |",
        "| --- | --- | ---: |" + " ---: |" * (len(GPUS) + 1),
    ]
    for model, shape in MODELS.items():
        for label, technique in TECHNIQUES:
            totals = [need(shape, technique, gpus).total for gpus in GPUS]
            fits = next((g for g, t in zip(GPUS, totals, strict=True) if t <= ROOM), None)
            count = _count(sum(trained(shape, technique).values()))
            cells = [model, label, count, *map(_gigabytes, totals), str(fits or f"> {GPUS[-1]}")]
            lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "Where they go, for LLaMA3-8B on one GPU and on eight:",
        "",
        "| technique | GPUs | weights | gradients | optimiser | activations | logits | exchange | "
        "total |",
        "| --- |" + " ---: |" * 8,
    ]
    parts = ("weights", "gradients", "optimiser", "activations", "logits", "exchange", "total")
    for label, technique in TECHNIQUES:
        for gpus in (1, 8):
            found = need(MODELS["LLaMA3-8B"], technique, gpus)
            cells = [label, str(gpus), *(_gigabytes(getattr(found, part)) for part in parts)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n\n" + END


def page() -> str:
    """The page, with its tables as they should be."""
    text = PAGE.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{PAGE} has lost the marks of its tables.")
    return before + tables() + after


def _gigabytes(count: int) -> str:
    return f"{count / GIGABYTE:.1f}"


def _count(number: int) -> str:
    return f"{number / 1e9:.1f} B" if number >= 1e9 else f"{number / 1e6:.1f} M"


def main() -> int:
    """Writes or checks the tables; 1 where they are not current."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--check", action="store_true", help="Write nothing.")
    text = page()
    if not arguments.parse_args().check:
        PAGE.write_text(text, encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != text:
        print(
            "docs/distributed.md is not current: python scripts/make_memory_table.py",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
