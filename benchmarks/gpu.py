"""What to run where a GPU is at hand: one row after another, each known as soon as it ends.

Every row is a command of this repository with a time limit. A row prints one line of JSON; rows
that docs/gpu.md has already are left out. Start it with what the rows need (``MODEL``, a model
folder; ``DATA``, a folder with the files of docs/tasks.md and training rows) in the environment.

    MODEL=SmolLM2 DATA=data python benchmarks/gpu.py --rows 1 2 3
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_HERE: Final = Path(__file__).resolve().parent
_KNOWN: Final = _HERE.parent / "docs" / "gpu.md"
_BENCH: Final = f"{sys.executable} {_HERE}"


@dataclass(frozen=True, slots=True)
class Row:
    """One thing to measure.

    Attributes:
        number: Its place in docs/gpu.md.
        what: In words.
        command: For a shell; the last JSON object or line that it prints is the result.
        seconds: When it is stopped.
    """

    number: int
    what: str
    command: str
    seconds: int


ROWS: Final = (
    Row(
        1,
        "tests of live modes, engine, MoLoRA and training on CUDA",
        f"{sys.executable} -m pytest -q -n 12 -p no:cacheprovider --no-header --tb=line "
        "tests/runtime tests/molora tests/training/test_trainer.py",
        200,
    ),
    Row(
        2,
        "MoLoRA against the loop and plain LoRA, widths of an 8B Llama",
        f"{_BENCH}/molora.py --device cuda --wide --dtype bfloat16 --turns 9 --json",
        60,
    ),
    Row(
        3,
        "engine against generate and continuous batching, 64 rows, four modes",
        f"{_BENCH}/generate.py --model $MODEL --device cuda --dtype bfloat16 --rows 64 "
        "--prompts 128 --longest 128 --modes --continuous --repeats 2 --json",
        150,
    ),
    Row(
        4,
        "QLoRA against TRL's own",
        f"{_BENCH}/training.py --model $MODEL --technique qlora --device cuda --batch 16 "
        "--length 512 --steps 12 --repeats 2 --json",
        150,
    ),
    Row(
        5,
        "LoRA against TRL's own",
        f"{_BENCH}/training.py --model $MODEL --technique lora --device cuda --batch 16 "
        "--length 512 --steps 12 --repeats 2 --json",
        150,
    ),
    Row(
        6,
        "the paper's seven tasks, four modes of one adapter",
        f"{sys.executable} -m taia train $MODEL --data $DATA/alpaca_gpt4_en_1k.json "
        "--technique lora --max-steps 60 --per-device-train-batch-size 16 --max-length 512 "
        f"--output $SCRATCH/adapter && {sys.executable} -m taia eval $MODEL $SCRATCH/adapter "
        "--modes base,tuned,taia,taif --tasks taia --data-dir $DATA --limit ${LIMIT:-500} "
        "--max-gen-toks 128 --batch-size 512 --output $SCRATCH/eval --json",
        420,
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rows that are asked for and not known yet; returns 1 when one fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, nargs="+", help="only these")
    parser.add_argument("--again", action="store_true", help="those in docs/gpu.md, too")
    options = parser.parse_args(arguments)
    print(json.dumps(_machine()), flush=True)
    known = _known()
    failed = 0
    for row in ROWS:
        if (options.rows and row.number not in options.rows) or (
            row.number in known and not options.again
        ):
            continue
        found = _run(row)
        failed += found["exit"] != 0
        print(json.dumps(found), flush=True)
    return 1 if failed else 0


def _known() -> set[int]:
    if not _KNOWN.is_file():
        return set()
    return {int(number) for number in re.findall(r"^\| (\d+) \|", _KNOWN.read_text(), re.M)}


def _machine() -> dict[str, Any]:
    import peft
    import torch
    import transformers

    driver = subprocess.run(
        ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "card": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "driver": driver.stdout.strip(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
    }


def _run(row: Row) -> dict[str, Any]:
    start = time.perf_counter()
    try:
        done = subprocess.run(
            ["bash", "-c", row.command],
            capture_output=True,
            text=True,
            timeout=row.seconds,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            check=False,
        )
        code, out, err = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired as error:
        code, out, err = 124, _text(error.stdout), _text(error.stderr)
    return {
        "row": row.number,
        "what": row.what,
        "seconds": round(time.perf_counter() - start, 1),
        "exit": code,
        "result": _last(out),
        **({} if code == 0 else {"out": out[-3000:], "error": err[-2000:]}),
    }


def _text(raw: bytes | str | None) -> str:
    return raw.decode(errors="replace") if isinstance(raw, bytes) else raw or ""


def _last(out: str) -> Any:  # noqa: ANN401 - JSON of any shape
    """The JSON that a command printed last, else its last line."""
    start = -1
    while (start := out.find("{", start + 1)) >= 0:
        try:
            return json.loads(out[start:])
        except ValueError:
            continue
    return (out.strip().splitlines() or [""])[-1]


if __name__ == "__main__":
    raise SystemExit(main())
