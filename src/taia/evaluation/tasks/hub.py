"""The paper's tasks on the hub: which data set each is, and its rows in the layout of the files.

Data sets with loading scripts no longer load; those here are Parquet or JSON, or the hub's own
conversion of a script's (the revision ``refs/convert/parquet``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from taia.errors import DownloadError, InputError, first_line
from taia.evaluation.tasks.files import Row

_NAME: Final = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?", re.ASCII)


def _as_it_is(row: Mapping[str, Any]) -> dict[str, Any]:
    return dict(row)


@dataclass(frozen=True, slots=True)
class HubData:
    """A data set on the hub.

    Attributes:
        name: ``org/name``.
        splits: The splits that make up the task, one after the other.
        configs: The configurations that make it up; None is the only one.
        revision: A branch, tag or commit; None is the newest.
        as_file: Brings a row into the layout of the task's file.
    """

    name: str
    splits: tuple[str, ...] = ("test",)
    configs: tuple[str | None, ...] = (None,)
    revision: str | None = None
    as_file: Callable[[Mapping[str, Any]], dict[str, Any]] = _as_it_is

    def at(self, given: str) -> HubData:
        """The same under another name, or at another revision.

        Args:
            given: ``org/name`` or ``org/name@revision``.

        Raises:
            InputError: If it is no such name.
        """
        match = _NAME.fullmatch(given)
        if match is None:
            raise InputError(
                f"{given!r} is no name of a data set on the hub.", "Write org/name[@revision]."
            )
        return replace(self, name=match["name"], revision=match["revision"])


def read_hub(data: HubData) -> list[Row]:
    """Download a data set, or read it from the cache; ``HF_HOME`` and ``HF_HUB_OFFLINE`` count.

    Raises:
        InputError: If the library ``datasets`` is not installed.
        DownloadError: If the hub cannot be reached, or has no such data set.
    """
    rows: list[Row] = []
    for config in data.configs:
        before = len(rows)
        for split in data.splits:
            for value in _load(data, config, split):
                number = len(rows) - before + 1
                name = f"{config}-{number}" if len(data.configs) > 1 else str(number)
                where = f"{data.name}, {config or 'row'} {number}"
                rows.append(Row(name, data.as_file(value), where, config or ""))
    return rows


def _load(data: HubData, config: str | None, split: str) -> list[Mapping[str, Any]]:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise InputError(
            f"{data.name} is read from the hub by the library datasets, which is missing.",
            'Install it: pip install "taia[eval]"; or give the files\' folder with --data-dir.',
        ) from error
    try:
        return list(load_dataset(data.name, config, split=split, revision=data.revision))
    except Exception as error:  # the clients' errors have no common class
        raise DownloadError(
            f"{data.name} cannot be had from the hub: {first_line(error)}.",
            "Give the files' folder with --data-dir (docs/tasks.md), or check the connection.",
        ) from error


def _logiqa(row: Mapping[str, Any]) -> dict[str, Any]:
    index = str(row.get("correct_option"))
    texts = {key: str(row.get(key) or "").strip() for key in ("context", "query")}
    options = [str(option).strip() for option in row.get("options") or ()]
    answer = "ABCD"[int(index)] if index in list("0123") else ""
    return {**texts, "options": options, "answer": answer}


def _svamp(row: Mapping[str, Any]) -> dict[str, Any]:
    answer = row.get("Answer")
    is_number = isinstance(answer, str) and re.fullmatch(r"-?\d+(\.\d+)?", answer)
    return {**row, "Answer": float(answer)} if is_number and answer else dict(row)


def _mmlu(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "type": row.get("subject")}


def _advbench(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"prompt": row.get("text")}


_MATH: Final = ("algebra", "counting_and_probability", "geometry", "intermediate_algebra",
                "number_theory", "prealgebra", "precalculus")  # fmt: skip
_BBH: Final = (
    "boolean_expressions", "causal_judgement", "date_understanding", "disambiguation_qa",
    "dyck_languages", "formal_fallacies", "geometric_shapes", "hyperbaton",
    "logical_deduction_five_objects", "logical_deduction_seven_objects",
    "logical_deduction_three_objects", "movie_recommendation", "multistep_arithmetic_two",
    "navigate", "object_counting", "penguins_in_a_table", "reasoning_about_colored_objects",
    "ruin_names", "salient_translation_error_detection", "snarks", "sports_understanding",
    "temporal_sequences", "tracking_shuffled_objects_five_objects",
    "tracking_shuffled_objects_seven_objects", "tracking_shuffled_objects_three_objects",
    "web_of_lies", "word_sorting",
)  # fmt: skip
_CONVERTED: Final = "refs/convert/parquet"

#: Task → its data set; a task without one needs its file.
HUB: Final[dict[str, HubData]] = {
    "taia_math": HubData("EleutherAI/hendrycks_math", configs=_MATH),
    "taia_bbh": HubData("SaylorTwift/bbh", configs=_BBH),
    "taia_csqa": HubData("tau/commonsense_qa", splits=("validation",)),
    "taia_logiqa": HubData("lucasmccabe/logiqa", revision=_CONVERTED, as_file=_logiqa),
    "taia_svamp": HubData("ChilleD/SVAMP", splits=("train", "test"), as_file=_svamp),
    "taia_mmedbench": HubData("GBaker/MedQA-USMLE-4-options"),
    "taia_mmlu": HubData("cais/mmlu", configs=("all",), as_file=_mmlu),
    "taia_logiqa_zh": HubData("jiacheng-ye/logiqa-zh", revision=_CONVERTED, as_file=_logiqa),
    "advbench": HubData("mlabonne/harmful_behaviors", splits=("train", "test"), as_file=_advbench),
}
