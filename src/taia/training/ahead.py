"""What can be told of a recipe before libraries and the model are loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from taia.checkpoint.inspection import look_ahead
from taia.training import folder
from taia.training.data.containers import SUFFIXES
from taia.training.data.reading import read_source
from taia.training.data.source import HubName, Source
from taia.training.recipe import Recipe

#: Bytes of a file that is read twice rather than found wrong late.
_SMALL: Final = 8_000_000


def check_ahead(recipe: Recipe, *, resume: bool = False, overwrite: bool = False) -> None:
    """Refuse what cannot be trained, where files and headers tell.

    Raises:
        InputError: If the model, a selection, the data or the output cannot be used (see
            :mod:`taia.errors` for its kinds).
        DownloadError: If the model cannot be fetched.
    """
    selections = [recipe.train, *recipe.lora_ranks, *recipe.learning_rates]
    places = look_ahead(recipe.model_name_or_path, None, selections, recipe.declare)
    if recipe.output_dir and not resume:
        folder.check(Path(recipe.output_dir), [place.path for place in places], overwrite=overwrite)
    given = [*recipe.data, *recipe.fisher_data]
    if isinstance(recipe.held_out, str):
        given.append(recipe.held_out)
    for text in given:
        source = Source.parse(text)
        if _is_small(source.path) if source.path else _is_no_hub_name(source.given):
            read_source(source, on_bad_row=recipe.on_bad_row, format=recipe.format)


def _is_small(path: Path) -> bool:
    files = [path] if path.is_file() else (file for file in path.rglob("*") if file.is_file())
    return sum(file.stat().st_size for file in files) <= _SMALL


def _is_no_hub_name(given: str) -> bool:
    return HubName.parse(given) is None or Path(given).suffix.lower() in SUFFIXES
