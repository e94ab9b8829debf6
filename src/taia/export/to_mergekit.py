"""For mergekit: the recipe of the same composition, of two whole checkpoints.

``linear`` with a weight of 1 − α for the base and α for the tuned model, by filters on names.
mergekit gives a tensor one number; what taia can do within a tensor it cannot say. It takes the
first of a list of ``{filter, value}`` whose filter occurs anywhere in a tensor's name; an entry
without a filter stands for the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isclose
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from taia.anatomy import Anatomy
from taia.checkpoint.arithmetic import dump, load, mix
from taia.checkpoint.header import Entry
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.locate import Located, locate
from taia.errors import InputError, MismatchError
from taia.export.job import Check, Written
from taia.methods.given import Array
from taia.selection import Selection
from taia.selection.alpha import Alpha, Pieces

if TYPE_CHECKING:
    from taia.export.job import Job
    from taia.export.source import ExportSource

#: A part of names, ``None`` for any, and the value of the tensors that have it.
Filter = tuple[str | None, float]
#: The file in the output.
FILE: Final = "mergekit.yml"
#: safetensors' dtype → mergekit's.
_DTYPES: Final = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True)
class MergekitRecipe:
    """A composition that mergekit can make.

    Attributes:
        base: The base.
        tuned: The tuned model.
        alphas: Tensor's name → α.
        dtype: What is calculated in float32 is rounded to; ``None`` where nothing is calculated.
    """

    base: Located
    tuned: Located
    alphas: Mapping[str, float]
    dtype: str | None

    @cached_property
    def filters(self) -> list[Filter]:
        """The tuned model's weights."""
        return filters(self.alphas)

    def to_yaml(self) -> str:
        """What mergekit reads."""
        import yaml

        recipe: dict[str, Any] = {
            "merge_method": "linear",
            "models": [
                _model(self.base, [(part, 1 - value) for part, value in self.filters]),
                _model(self.tuned, self.filters),
            ],
            "parameters": {"normalize": False},
        }
        if self.dtype is not None:
            recipe |= {"dtype": "float32", "out_dtype": self.dtype}
        text: str = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)
        return text


def write(job: Job, folder: Path) -> Written:
    """Writes ``mergekit.yml``.

    Raises:
        InputError: If mergekit cannot say what was composed; the message says why.
    """
    recipe = read_recipe(job.source)
    (folder / FILE).write_text(recipe.to_yaml(), encoding="utf-8")
    return Written(
        ("mergekit copies the base's tokenizer and config; compose copies what was kept.",),
        f"mergekit-yaml {{output}}/{FILE} MERGED",
    )


def verify(job: Job, folder: Path) -> tuple[Check, ...]:
    """Does what the recipe says, tensor by tensor, and compares it with the source."""
    import yaml

    recipe = read_recipe(job.source)
    said = yaml.safe_load((folder / FILE).read_text(encoding="utf-8"))
    weights = [
        [(each.get("filter"), each["value"]) for each in model["parameters"]["weight"]]
        for model in said["models"]
    ]
    base, tuned, made = (
        Checkpoint.open(place.path).tensors
        for place in (recipe.base, recipe.tuned, job.source.place)
    )
    wrong = [
        name
        for name, entry in made.items()
        if dump(load(entry), entry.dtype)
        != dump(
            _merged(load(base[name]), load(tuned[name]), *(value_of(name, w) for w in weights)),
            entry.dtype,
        )
    ]
    sentence = (
        f"The recipe, done tensor by tensor, makes {len(made) - len(wrong)} of the source's "
        f"{len(made)} tensors. mergekit itself was not run."
    )
    return (Check(sentence, not wrong, {"equal": len(made) - len(wrong), "of": len(made)}),)


def _merged(base: Array, tuned: Array, of_base: float, of_tuned: float) -> Array:
    """Base · of_base + tuned · of_tuned, as compose calculates it."""
    return mix(base, tuned, of_tuned) if isclose(of_base + of_tuned, 1) else base * 0


def read_recipe(source: ExportSource) -> MergekitRecipe:
    """What was composed, from ``taia_config.json``.

    Raises:
        InputError: If that is no composition of two checkpoints, or mergekit cannot say it.
    """
    record = source.record
    settings = _table(record, "settings")
    if source.adapter or record.get("kind") != "checkpoint" or settings.get("merge"):
        raise InputError(
            f"{source.place.given} is no composition of two whole checkpoints.",
            "mergekit merges whole checkpoints: give a folder that taia compose wrote of two.",
        )
    if settings.get("method"):
        raise InputError(
            f"{source.place.given} was composed by the method {settings['method']}, which is no "
            "weight for each tensor.",
            "A recipe is written of what was composed by a selection alone.",
        )
    base = locate(source.given_base or _where(source, "base"))
    tuned = locate(_where(source, "tuned"))
    here, there, made = (Checkpoint.open(p.path) for p in (base, tuned, source.place))
    _check_same(here.tensors, there.tensors, made.tensors)
    labels = Anatomy.of_tensors(
        (entry.info for entry in here.tensors.values()),
        here.config,
        settings.get("declare"),
    )
    selection = Selection.parse(_canonical(record))
    alphas = {name: _number(name, alpha) for name, alpha in selection.alphas(labels).items()}
    return MergekitRecipe(base, tuned, alphas, _dtype(here.tensors, alphas))


def _canonical(record: Mapping[str, Any]) -> str:
    text = _table(record, "selection").get("canonical")
    if not isinstance(text, str):
        raise InputError("taia_config.json does not say what was kept.", "Compose it again.")
    return text


def _table(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = record.get(key)
    return value if isinstance(value, dict) else {}


def _where(source: ExportSource, side: str) -> str:
    where = source.recorded(side)
    if not where:
        raise InputError(
            f"taia_config.json does not say where the {side} model was.", "Compose it again."
        )
    return where


def _check_same(base: Mapping[str, Entry], *others: Mapping[str, Entry]) -> None:
    for other in others:
        if other.keys() != base.keys():
            name = min(other.keys() ^ base.keys())
            raise MismatchError(
                f"{name!r} is in one of base, tuned and composed model and not in another.",
                "mergekit merges models with the same tensors; use taia compose.",
            )
        for name, entry in other.items():
            if (entry.shape, entry.dtype) != (base[name].shape, base[name].dtype):
                raise MismatchError(
                    f"{name!r} is {base[name].dtype} {list(base[name].shape)} and {entry.dtype} "
                    f"{list(entry.shape)}.",
                    "mergekit would cut or convert it its own way; use taia compose.",
                )


def _number(name: str, alpha: Alpha) -> float:
    if isinstance(alpha, Pieces):
        raise InputError(
            f"The selection keeps a part of the rows of {name!r}.",
            "mergekit gives a whole tensor one number; use taia compose.",
        )
    return alpha


def _dtype(tensors: Mapping[str, Entry], alphas: Mapping[str, float]) -> str | None:
    if all(alpha in (0, 1) for alpha in alphas.values()):
        return None
    dtypes = {entry.dtype for entry in tensors.values()}
    if len(dtypes) > 1 or not dtypes <= _DTYPES.keys():
        raise InputError(
            f"Fractions of a model in {', '.join(sorted(dtypes))} cannot be said to mergekit, "
            "which rounds all tensors to one dtype.",
            "Use taia compose.",
        )
    return _DTYPES[dtypes.pop()]


def _model(place: Located, weights: list[Filter]) -> dict[str, Any]:
    listed = [
        {"value": value} if part is None else {"filter": part, "value": value}
        for part, value in weights
    ]
    return {"model": _spelled(place), "parameters": {"weight": listed}}


def _spelled(place: Located) -> str:
    if place.repo:
        return f"{place.repo}@{place.commit}"
    path = str(place.path.resolve())
    if "+" in path or "@" in path:
        raise InputError(
            f"{path} has a + or @, after which mergekit expects an adapter or a revision.",
            "Move or rename the folder.",
        )
    return path


def filters(values: Mapping[str, float]) -> list[Filter]:
    """The filters under which every tensor, by its name, gets its value."""
    each = (_beside(rest, values) for rest in sorted(set(values.values())))
    return min(each, key=len)


def value_of(name: str, among: Sequence[Filter]) -> float:
    """The value that mergekit takes for a tensor."""
    return next(value for part, value in among if part is None or part in name)


def _beside(rest: float, values: Mapping[str, float]) -> list[Filter]:
    """Filters for all tensors but those with one value."""
    found: list[Filter] = []
    left = {name for name, value in values.items() if value != rest}
    while left:
        name = min(left)
        part = _part(name, values)
        if part is None:
            return _by_name(values)
        found.append((part, values[name]))
        left = {other for other in left if part not in other}
    return [*found, (None, rest)]


def _by_name(values: Mapping[str, float]) -> list[Filter]:
    """Every name in full, the longest first: none is then a part of one that comes after it."""
    return [(name, values[name]) for name in sorted(values, key=len, reverse=True)]


def _part(name: str, values: Mapping[str, float]) -> str | None:
    """The shortest run of a name's parts that no tensor with another value has, if any."""
    others = [other for other, value in values.items() if value != values[name]]
    return next((part for part in _runs(name) if not any(part in other for other in others)), None)


def _runs(name: str) -> Iterator[str]:
    parts = name.split(".")
    last = len(parts)
    for length in range(1, last + 1):
        for start in range(last - length + 1):
            run = ".".join(parts[start : start + length])
            yield ("." if start else "") + run + ("." if start + length < last else "")
