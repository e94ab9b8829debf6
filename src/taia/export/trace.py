"""The same tokens through two models: the source's own greedy ones, and how the other scores them.

The source continues a prompt greedily; every other model is then given the same tokens, so that one
token chosen otherwise does not hide what comes after it. If both choose alike everywhere, their
greedy texts are the same. All are live models in float32.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from taia.checkpoint.adapters.names import PEFT_TYPE
from taia.checkpoint.locate import Located
from taia.checkpoint.reading import read_json
from taia.errors import CheckpointError, RunError, blaming
from taia.export.job import Check
from taia.loading.models import load_model, load_tokenizer
from taia.runtime.load import peft_config

if TYPE_CHECKING:
    from taia.export.source import ExportSource

#: How many tokens are compared.
STEPS: Final = 16
_PROMPT: Final = "Three things to know before you move to another country are"


@dataclass(frozen=True, slots=True)
class Trace:
    """How a model goes on, greedily.

    Attributes:
        ids: The prompt and the tokens chosen, but for the last.
        logits: Scores of every token at each step, ``[STEPS, vocabulary]``, float32.
    """

    ids: tuple[int, ...]
    logits: torch.Tensor


def prompt_ids(place: Located, vocabulary: int) -> list[int]:
    """A prompt's tokens; without a tokenizer, some tokens from all over the vocabulary."""
    try:
        ids = load_tokenizer(place)(_PROMPT)["input_ids"]
    except CheckpointError:
        ids = []
    if ids and max(ids) < vocabulary:
        return list(ids)
    return [vocabulary * step // 8 for step in range(8)]


def lead(model: Any, prompt: Sequence[int]) -> Trace:  # noqa: ANN401 - transformers' or PEFT's
    """Lets a model continue a prompt greedily."""
    ids = list(prompt)
    for _ in range(STEPS):
        logits = _forward(model, ids)
        ids.append(int(logits[-1].argmax()))
    return Trace(tuple(ids[:-1]), logits[-STEPS:])


def follow(model: Any, trace: Trace) -> torch.Tensor:  # noqa: ANN401 - transformers' or PEFT's
    """Another model's scores at the steps of a trace, ``[STEPS, vocabulary]``."""
    return _forward(model, trace.ids)[-STEPS:]


def _forward(model: Any, ids: Sequence[int]) -> torch.Tensor:  # noqa: ANN401
    with torch.no_grad():
        logits: torch.Tensor = model(torch.tensor([list(ids)], device=model.device)).logits
    return logits[0].float().cpu()


def spread(logits: torch.Tensor) -> float:
    """Root mean square of scores less their mean: a constant on all of a step's says nothing."""
    return float((logits - logits.mean(dim=-1, keepdim=True)).square().mean().sqrt())


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """How far two sets of scores are apart, as :func:`spread` measures."""
    return spread(one - other)


def compared(
    loader: str,
    trace: Trace,
    got: torch.Tensor,
    *,
    precision: float,
    without: torch.Tensor | None = None,
    slack: float = 0.0,
) -> Check:
    """Compares what a loaded output says with what the source says.

    Args:
        loader: What loaded the output, for the sentence.
        trace: The source's.
        got: The output's, over the same tokens.
        precision: How far they may be apart, as a share of the spread of the source's scores.
        without: The base's scores, where an adapter was exported: what a loader would say that
            ignores it. Whether the comparison could have told the two apart is said.
        slack: What may come on top because the loader's base weights are not the base's.
    """
    apart = distance(got, trace.logits)
    allowed = precision * spread(trace.logits) + slack
    effect = None if without is None else distance(trace.logits, without)
    tells = effect is None or effect > 2 * allowed
    equal = int((got.argmax(-1) == trace.logits.argmax(-1)).sum())
    said = (
        f"{loader}: {equal} of {STEPS} greedy tokens are the source's, scores differ by "
        f"{apart:.1e} ({allowed:.1e} allowed"
    )
    said += ")." if effect is None else f"; without the adapter {effect:.1e})."
    if not tells:
        said += " The adapter changes too little here for this to tell it from the base."
    measured = {"equal": equal, "of": STEPS, "difference": apart, "allowed": allowed}
    measured |= {} if effect is None else {"effect": effect}
    return Check(said, apart <= allowed, measured)


def load_whole(place: Located) -> Any:  # noqa: ANN401 - a PreTrainedModel
    """A whole checkpoint in float32.

    Raises:
        CheckpointError: If transformers does not load it.
    """
    model: Any = load_model(place, torch.float32)
    return model.eval()


def load_adapted(base: Any, folder: Path, config: Any = None) -> Any:  # noqa: ANN401 - a PeftModel
    """A base with an adapter on it.

    Args:
        base: The live model.
        folder: The adapter's.
        config: PEFT's config, if not as PEFT itself reads it there.

    Raises:
        RunError: If PEFT does not load the adapter, or not all of it.
    """
    from peft import PeftModel

    if read_json(folder / "adapter_config.json").get("peft_type") == PEFT_TYPE:
        import taia.molora  # noqa: F401 - makes it known to PEFT
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with blaming(
            RunError,
            f"PEFT does not load {folder.name}",
            "Check that the base model is the one the adapter was trained on.",
        ):
            adapted = PeftModel.from_pretrained(base, str(folder), config=config)
    if told := [str(w.message) for w in caught if "missing adapter keys" in str(w.message)]:
        raise RunError(
            f"PEFT found only a part of {folder.name}: {told[0].splitlines()[0][:200]}",
            "The adapter's config and tensors do not belong together; save it again.",
        )
    return adapted.eval()


def source_trace(source: ExportSource) -> tuple[Trace, torch.Tensor | None]:
    """What the source says, and for an adapter, what its base says to the same tokens."""
    if source.adapter is None:
        model = load_whole(source.place)
        return lead(
            model, prompt_ids(source.place, model.config.get_text_config().vocab_size)
        ), None
    model = load_whole(source.base)
    prompt = prompt_ids(source.base, model.config.get_text_config().vocab_size)
    adapted = load_adapted(model, source.folder, peft_config(source.adapter))
    trace = lead(adapted, prompt)
    with adapted.disable_adapter():
        return trace, follow(adapted, trace)
