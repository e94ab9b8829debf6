"""What a run was, for machines (``taia_config.json``) and for people (``README.md``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from taia.checkpoint.locate import Located
from taia.checkpoint.output.manifest import MANIFEST, origin, versions, write_json
from taia.training.data import PreparedData
from taia.training.reading import to_yaml
from taia.training.recipe import Recipe
from taia.training.techniques import Ready

_LIBRARIES: Final = ("transformers", "peft", "trl", "accelerate", "datasets")
_PAPER: Final = "https://arxiv.org/abs/2405.20192"


@dataclass(frozen=True)
class Record:
    """What a run was.

    Attributes:
        recipe: How it trained.
        base: Where the base came from.
        data: What it was trained on: sources, formats, hashes, rows, tokens.
        trained: Numbers that trained.
        total: Numbers there are.
        steps: ``{"step", "loss", "learning_rate", "grad_norm"}`` of each step written down.
        validation: ``{"step", "eval_loss"}`` of each evaluation.
        notes: What a careful reader would want to know.
        seconds: How long it took, since it was last resumed.
    """

    recipe: Recipe
    base: Mapping[str, Any]
    data: Mapping[str, Any]
    trained: int
    total: int
    steps: Sequence[Mapping[str, float]]
    validation: Sequence[Mapping[str, float]]
    notes: Sequence[str]
    seconds: float

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        place: Located,
        data: PreparedData,
        ready: Ready,
        history: Sequence[Mapping[str, float]],
        notes: Sequence[str],
        seconds: float,
    ) -> Record:
        """The record of a run, from what the trainer wrote down."""
        kept = ("step", "loss", "grad_norm", "learning_rate")
        return cls(
            recipe,
            origin(place),
            asdict(data.facts),
            ready.trained,
            ready.total,
            tuple({k: row[k] for k in kept if k in row} for row in history if "loss" in row),
            tuple(
                {"step": row["step"], "eval_loss": row["eval_loss"]}
                for row in history
                if "eval_loss" in row
            ),
            tuple(notes),
            round(seconds, 1),
        )

    @property
    def losses(self) -> list[float]:
        """The loss of each step written down."""
        return [float(step["loss"]) for step in self.steps]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "versions": versions(*_LIBRARIES),
            "kind": "training",
            "recipe": asdict(self.recipe),
            "base": dict(self.base),
            "data": dict(self.data),
            "parameters": {"trained": self.trained, "total": self.total},
            "seconds": self.seconds,
            "notes": list(self.notes),
            "steps": [dict(step) for step in self.steps],
            "validation": [dict(step) for step in self.validation],
        }


def write_record(folder: Path, record: Record) -> None:
    """Write ``taia_config.json`` and the model card."""
    write_json(folder / MANIFEST, record.to_json())
    (folder / "README.md").write_text(_card(record), encoding="utf-8")


def _card(record: Record) -> str:
    recipe = record.recipe
    base = str(record.base.get("repo") or record.base.get("path"))
    name = base.rstrip("/").rpartition("/")[2]
    kind = "An adapter" if recipe.is_adapter else "A model"
    front = ["---"]
    if record.base.get("repo"):
        front.append(f"base_model: {base}")
    front += ["library_name: peft" if recipe.is_adapter else "library_name: transformers"]
    front += ["tags:", "- taia", f"- {recipe.technique}", "---", ""]
    losses = record.losses
    lines = [
        f"# {name}, tuned",
        "",
        f"{kind} fine-tuned from `{base}` with `{recipe.technique}`, {record.trained:,} of "
        f"{record.total:,} parameters, {len(losses)} steps written down; the loss went from "
        f"{losses[0]:.3f} to {losses[-1]:.3f}."
        if losses
        else f"{kind} fine-tuned from `{base}`.",
        "",
        f"What to keep of the update can be chosen now ([TAIA]({_PAPER})):",
        "",
        "```sh",
        f"taia compose {base} THIS_FOLDER --keep taia --output OUT",
        "```",
        "",
        "The recipe (`taia train --config`):",
        "",
        "```yaml",
        to_yaml(recipe).rstrip(),
        "```",
        "",
        *(f"- {note}" for note in record.notes),
        *([""] if record.notes else []),
        f"`{MANIFEST}` has the data's hashes, the versions and the loss of every step. The "
        "licences of the base model and of the data apply.",
        "",
    ]
    return "\n".join([*front, *lines])
