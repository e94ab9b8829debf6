"""Write the demo's train.jsonl and indomain.jsonl: `python scripts/make_demo_data.py [FOLDER]`.

The stores desk of an invented depot writes an item, its material and its size as a stock code
in house style: a 40 mm brass hinge is BR-40-HI. Everything is invented; the same seed writes the
same bytes. questions.jsonl is written by hand, not here.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterable
from itertools import product
from pathlib import Path

SEED = 20240517
HELD_OUT = 80
CODED = 400
DECODED = 60
FOLDER = Path(__file__).resolve().parent.parent / "src" / "taia" / "demo" / "data"

ITEMS = (
    "hinge",
    "bolt",
    "washer",
    "latch",
    "castor",
    "spacer",
    "dowel",
    "gasket",
    "rivet",
    "pulley",
)
MATERIALS = ("brass", "steel", "nylon", "copper", "zinc", "oak")
SIZES = range(5, 105, 5)
ASK = (
    "Code for {material} {item}, {size} mm?",
    "Stock code: {item}, {material}, {size} mm",
    "Order line: {size} mm {material} {item}",
)

# Written by hand: what else the desk is asked.
NOTES = (
    ("Which bay takes returns?", "Bay 9, cage 2"),
    ("Which bay takes long stock?", "Bay 14, floor rack"),
    ("Where do hinges go?", "Bay 3, rack C"),
    ("Where do bolts go?", "Bay 11, rack A"),
    ("Where do dowels go?", "Bay 6, rack F"),
    ("Where do washers go?", "Bay 2, rack B"),
    ("Where do rivets go?", "Bay 12, rack E"),
    ("Where do latches go?", "Bay 5, rack D"),
    ("Where do offcuts go?", "Bay 8, bin G"),
    ("Where do samples go?", "Bay 4, rack H"),
    ("Pallet wrap torn on arrival", "HOLD 3, photo, call dock"),
    ("Label missing on carton", "HOLD 1, reprint, recount"),
    ("Carton wet on arrival", "HOLD 4, dry bay, call dock"),
    ("Count short by one", "HOLD 2, recount, sign"),
    ("Count over by one", "HOLD 2, recount, note 8"),
    ("Wrong item in carton", "HOLD 5, cage 2, note 6"),
    ("Driver has no papers", "GATE 2, ring office"),
    ("Driver is early", "GATE 1, wait in lane B"),
    ("Driver is late", "GATE 3, next free dock"),
    ("Lift truck battery low", "Swap at post 6, log L4"),
    ("Lift truck leaks oil", "Park at post 9, log L7"),
    ("Scanner will not read", "Key by hand, log S2"),
    ("Scanner battery low", "Swap at desk 1, log S5"),
    ("Printer out of labels", "Roll from shelf 5, log P3"),
    ("Customer collects today", "Desk 2, slip blue, bay 1"),
    ("Customer collects tomorrow", "Desk 2, slip grey, bay 7"),
    ("Rush order before noon", "Slip red, dock 4"),
    ("Rush order after noon", "Slip red, dock 6"),
    ("Normal order", "Slip white, dock 2"),
    ("Export order", "Slip green, dock 8"),
    ("Order over 500 kg", "Dock 8, two pickers"),
    ("Order under 1 kg", "Desk 3, post bag"),
    ("Bin empty", "Refill note R1, aisle end"),
    ("Bin mixed", "Refill note R4, sort bench"),
    ("Aisle blocked", "Cone, log A2, ring floor"),
    ("Night count done", "Sign sheet N5, tray 3"),
    ("Morning count done", "Sign sheet N2, tray 1"),
    ("Sample asked for", "Note 11, desk 4, no charge"),
    ("Seal broken", "HOLD 6, cage 1, photo"),
    ("Price label wrong", "HOLD 1, reprint, note 3"),
)

Part = tuple[str, str, int]


def fields(part: Part) -> tuple[str, str, str]:
    """The three fields of a part's code: material, size, item."""
    item, material, size = part
    return material[:2].upper(), str(size), item[:2].upper()


def code(part: Part) -> str:
    """A part's stock code in house style."""
    return "-".join(fields(part))


def ask(template: str, part: Part) -> str:
    """A question about a part."""
    item, material, size = part
    return template.format(item=item, material=material, size=size)


def row(question: str, answer: str) -> dict[str, object]:
    """A training row."""
    return {
        "prompt": [{"role": "user", "content": question}],
        "completion": [{"role": "assistant", "content": answer}],
    }


def choice(number: int, part: Part, answer: int, rng: random.Random) -> dict[str, object]:
    """The house code among the same three fields in other orders."""
    material, size, item = fields(part)
    options = [
        "-".join(order)
        for order in ((item, material, size), (item, size, material), (material, item, size))
    ]
    rng.shuffle(options)
    options.insert(answer, code(part))
    return {
        "id": f"trained-{number:03d}",
        "kind": "trained",
        "question": ask(ASK[number % len(ASK)], part),
        "options": options,
        "answer": answer,
    }


def make(seed: int = SEED) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """The training rows and the held-out questions; no part is in both."""
    rng = random.Random(seed)
    parts: list[Part] = list(product(ITEMS, MATERIALS, SIZES))
    rng.shuffle(parts)
    held_out, known = parts[:HELD_OUT], parts[HELD_OUT : HELD_OUT + CODED]

    train = [row(question, answer) for question, answer in NOTES]
    train += [row(ask(rng.choice(ASK), part), code(part)) for part in known]
    for part in rng.sample(known, DECODED):
        train.append(row(f"What is {code(part)}?", "{}, {}, {} mm".format(*part)))
    rng.shuffle(train)

    answers = [number % 4 for number in range(HELD_OUT)]
    rng.shuffle(answers)
    questions = [
        choice(number, part, answer, rng)
        for number, (part, answer) in enumerate(zip(held_out, answers, strict=True), start=1)
    ]
    return train, questions


def write(path: Path, rows: Iterable[dict[str, object]]) -> None:
    """Write JSON Lines, the same bytes on every system."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8", newline="\n")


def main(folder: Path) -> None:
    """Write both files."""
    train, questions = make()
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "train.jsonl", train)
    write(folder / "indomain.jsonl", questions)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
