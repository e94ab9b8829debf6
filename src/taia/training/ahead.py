"""What can be told of a recipe before libraries and the model are loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from taia.checkpoint.folders import holds_adapter
from taia.checkpoint.inspection import look_ahead
from taia.errors import AdapterError
from taia.loading.models import check_live
from taia.offline import check_reachable
from taia.training import folder
from taia.training.data.containers import SUFFIXES
from taia.training.data.reading import read_source
from taia.training.data.source import HubName, Source
from taia.training.recipe import Recipe

#: Bytes of a file that is read twice rather than found wrong late.
_SMALL: Final = 8_000_000


def check_ahead(
    recipe: Recipe,
    *,
    config: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> None:
    """Refuse what cannot be trained, where files and headers tell.

    Args:
        recipe: What to train, and how.
        config: The file that the recipe was read from, which the output may not hold either.
        resume: Whether a run that is there goes on.
        overwrite: Whether an earlier run's folder may go.

    Raises:
        InputError: If the model, a selection, the data or the output cannot be used (see
            :mod:`taia.errors` for its kinds).
        DownloadError: If the model or data cannot be fetched.
    """
    selections = [recipe.train, *recipe.lora_ranks, *recipe.learning_rates]
    places = look_ahead(recipe.model_name_or_path, None, selections, recipe.declare)
    if any(holds_adapter(place.path) for place in places):
        raise AdapterError(
            f"{recipe.model_name_or_path} is an adapter, and was given as the model to tune.",
            "Merge it first (taia compose BASE ADAPTER --merge), or give the model below it.",
        )
    if recipe.output_dir and not resume:
        inputs = [*(place.path for place in places), *data_files(recipe), *filter(None, [config])]
        folder.check(Path(recipe.output_dir), inputs, overwrite=overwrite)
    for source in _sources(recipe):
        if _is_small(source.path) if source.path else _is_no_hub_name(source.given):
            read_source(source, on_bad_row=recipe.on_bad_row, format=recipe.format)
    on_hub = [HubName.parse(source.given) for source in _sources(recipe) if source.path is None]
    mend = "Connect, or unset HF_HUB_OFFLINE, and try again; or give a file."
    check_reachable([name.name for name in on_hub if name is not None], mend)
    check_live(*places)


def data_files(recipe: Recipe) -> list[Path]:
    """The files and folders that a recipe's rows are read from, those of the hub aside."""
    return [source.path for source in _sources(recipe) if source.path is not None]


def _sources(recipe: Recipe) -> list[Source]:
    """All that rows are read from: to learn, to validate, to protect."""
    held_out = [recipe.held_out] if isinstance(recipe.held_out, str) else []
    return [Source.parse(text) for text in (*recipe.data, *recipe.fisher_data, *held_out)]


def _is_small(path: Path) -> bool:
    files = [path] if path.is_file() else (file for file in path.rglob("*") if file.is_file())
    return sum(file.stat().st_size for file in files) <= _SMALL


def _is_no_hub_name(given: str) -> bool:
    return HubName.parse(given) is None or Path(given).suffix.lower() in SUFFIXES
