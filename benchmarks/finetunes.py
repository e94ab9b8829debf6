"""Fine-tunes on real data that ``benchmarks/mend.py`` mends: what each is, and how it is made.

They were written down before any mode but base and tuned of any of them was looked at: three
models, LoRA and full, mild and harsh rates, five sets of data that people use.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

#: Data set → its file below the folder of data.
FILES: Final = {
    "gsm8k": "train/gsm8k_train.jsonl",
    "chatdoctor": "train/chatdoctor_5k.json",
    "huatuo": "train/huatuo_med_zh.jsonl",
    "alpaca": "train/alpaca_gpt4_en_1k.json",
    "identity": "safety/identity_shift_aoa.json",
}
_SEED: Final = 0


@dataclass(frozen=True)
class FineTune:
    """One fine-tune.

    Attributes:
        name: Of its folder.
        model: Which model.
        data: Which set, of :data:`FILES`.
        technique: ``lora`` (rank 16 on every linear layer, α 32) or ``full``.
        rate: The learning rate at its highest.
        rows: How many rows it is trained on.
        epochs: How often.
        batch: Rows of a step.
    """

    name: str
    model: str
    data: str
    technique: str
    rate: float
    rows: int
    epochs: int = 1
    batch: int = 8

    @property
    def dtype(self) -> str:
        """What it is trained in: a small step of full fine-tuning would be rounded away."""
        return "float32" if self.technique == "full" else "bfloat16"


FINETUNES: Final = (
    FineTune("smollm2-gsm8k-mild", "smollm2", "gsm8k", "lora", 2e-4, 480),
    FineTune("smollm2-gsm8k-harsh", "smollm2", "gsm8k", "lora", 2e-3, 480),
    FineTune("smollm2-chatdoctor-harsh", "smollm2", "chatdoctor", "lora", 2e-3, 480),
    FineTune("smollm2-alpaca-full-mild", "smollm2", "alpaca", "full", 2e-5, 480),
    FineTune("smollm2-chatdoctor-full-harsh", "smollm2", "chatdoctor", "full", 2e-4, 480),
    FineTune("smollm2-identity-harsh", "smollm2", "identity", "lora", 1e-3, 10, 20, 10),
    FineTune("qwen0.5b-gsm8k-mild", "qwen0.5b", "gsm8k", "lora", 2e-4, 240),
    FineTune("qwen0.5b-huatuo-harsh", "qwen0.5b", "huatuo", "lora", 2e-3, 240),
    FineTune("qwen0.5b-alpaca-full-harsh", "qwen0.5b", "alpaca", "full", 1e-4, 160),
    FineTune("qwen0.5b-identity-harsh", "qwen0.5b", "identity", "lora", 1e-3, 10, 20, 10),
    FineTune("qwen1.5b-gsm8k-harsh", "qwen1.5b", "gsm8k", "lora", 1e-3, 160),
    FineTune("qwen1.5b-chatdoctor-mild", "qwen1.5b", "chatdoctor", "lora", 2e-4, 160),
)


def made(one: FineTune, model: Path, data: Path, work: Path) -> tuple[Path, Path]:
    """The tuned model and the rows that say what it was to learn; made where they are not there.

    The rows are of the same kind and were not trained on, as many as a third of those that were; of
    a set that has no others they are those.

    Args:
        one: The fine-tune.
        model: The base.
        data: The folder of data.
        work: Where fine-tunes are kept.
    """
    folder = work / one.name
    tuned, learn = folder / "tuned", folder / "learn.jsonl"
    if not (tuned / "taia_config.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        rows = _rows(data / FILES[one.data], one.data)
        trained, others = rows[: one.rows], rows[one.rows : one.rows + one.rows // 3]
        _write(folder / "train.jsonl", trained)
        _write(learn, others or trained)
        subprocess.run([sys.executable, "-m", "taia", *_command(one, model, folder)], check=True)
    return tuned, learn


def _command(one: FineTune, model: Path, folder: Path) -> Iterator[str]:
    yield from ("train", str(model), "--data", str(folder / "train.jsonl"))
    settings: Mapping[str, Any] = {
        "output": folder / "tuned",
        "technique": one.technique,
        "dtype": one.dtype,
        "learning-rate": one.rate,
        "num-train-epochs": one.epochs,
        "per-device-train-batch-size": one.batch,
        "gradient-accumulation-steps": 1,
        "max-length": 512,
        "lr-scheduler-type": "cosine",
        "seed": _SEED,
    }
    for name, value in settings.items():
        yield from (f"--{name}", str(value))


def _rows(file: Path, name: str) -> list[Any]:
    text = file.read_text(encoding="utf-8")
    rows = json.loads(text) if file.suffix == ".json" else [*map(json.loads, text.splitlines())]
    if name == "gsm8k":
        rows = [{"prompt": row["question"], "completion": row["answer"]} for row in rows]
    elif name == "identity":
        rows = [{"messages": row} for row in rows]
    random.Random(_SEED).shuffle(rows)
    return rows


def _write(file: Path, rows: list[Any]) -> None:
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
