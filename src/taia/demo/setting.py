"""What the demonstration fixes beforehand; data/README.md tells how it was chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from taia.demo.questions import Normalise, Question, read_questions
from taia.evaluation.tasks import FOLDER
from taia.training.recipe import Recipe

DATA: Final = Path(__file__).parent / "data"
#: What the model is fine-tuned on: stock codes, which have nothing to do with the questions.
TRAIN: Final = DATA / "train.jsonl"
#: General knowledge, and the trained skill on rows that are not in the training data.
QUESTIONS: Final = (FOLDER / "data" / "questions.jsonl", DATA / "indomain.jsonl")
#: The modes shown unless others are asked for.
MODES: Final = ("base", "tuned", "taia", "taif")
SEED: Final = 0
RECIPE: Final = Recipe(
    data=[str(TRAIN)],
    technique="lora",
    lora_r=16,
    lora_alpha=32,
    lora_dropout=0.05,
    dtype="float32",
    bf16=False,
    learning_rate=5e-3,
    max_steps=24,
    per_device_train_batch_size=8,
    lr_scheduler_type="cosine",
    warmup_steps=1,
    weight_decay=0.0,
    save_steps=0,
)
#: Of the questions; other ones make results that are not these.
VERSION: Final = "1"
#: All kinds of general knowledge together: a task, whose parts they are.
KNOWLEDGE: Final = "knowledge"
#: What training teaches: the task of the questions of kind ``trained``.
SKILL: Final = "trained_skill"
NORMALISE: Final[Normalise] = "none"


def questions(limit: int | None = None) -> list[Question]:
    """The questions that ship with the package.

    Args:
        limit: At most so many of each kind, the first ones.
    """
    taken: dict[str, int] = {}
    chosen = []
    for path in QUESTIONS:
        for question in read_questions(path):
            taken[question.kind] = taken.get(question.kind, 0) + 1
            if limit is None or taken[question.kind] <= limit:
                chosen.append(question)
    return chosen


def task_of(kind: str) -> str:
    """The task that a kind of question is in the results."""
    return SKILL if kind == "trained" else kind
