"""``taia train``: fine-tune a model, by a recipe whose every key is a flag."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from taia.cli.environment import prepare
from taia.cli.flags import given, with_recipe_flags
from taia.cli.options import AsJson, say_json
from taia.errors import InputError
from taia.packages import require_packages
from taia.training.recipe import Recipe, Sharding


@with_recipe_flags
def train(
    model: Annotated[
        str | None,
        typer.Argument(help="The model to tune: a folder or a hub name.", show_default=False),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A recipe: a YAML file of keys.", show_default=False)
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="A recipe that ships with taia: taia-lora, taia-molora, taia-full, taia-safety, "
            "medcare-molora.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show parameters, memory and steps; train nothing.")
    ] = False,
    preview: Annotated[
        bool,
        typer.Option("--preview", help="Show one example; what the loss does not count is dim."),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the unfinished run in --output.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Remove what is at --output, at the start.")
    ] = False,
    accelerate: Annotated[
        Literal["ddp", "fsdp", "zero3"] | None,
        typer.Option(help="Train in several processes.", show_default=False),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="How many; by default one a GPU.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    **keys: Any,  # noqa: ANN401 - one for each key of a recipe
) -> None:
    """Fine-tune a model; what comes out goes straight into compose.

    Every key of a recipe is a flag. Flags win over --config, --config over --preset.
    """
    prepare()
    recipe = _recipe(model, config, preset, resume, keys)
    modules = ["torch", "transformers", "safetensors", "accelerate", "datasets", "peft", "trl"]
    require_packages(
        "train",
        *modules,
        *(["bitsandbytes"] if recipe.technique == "qlora" else []),
        *(["deepspeed"] if accelerate == "zero3" and not dry_run else []),
    )
    needed = {"model_name_or_path": "MODEL", "data": "--data", "output_dir": "--output"}
    if preview or dry_run:
        del needed["output_dir"]
    for key, name in needed.items():
        if not getattr(recipe, key):
            raise InputError(f"{name} is missing.", f"Give it, or {key} in the --config file.")
    if int(os.environ.get("RANK", "0")) == 0:  # one of several processes asks for all
        from taia.training.ahead import check_ahead

        check_ahead(recipe, config=config, resume=resume, overwrite=overwrite)
    if preview:
        _preview(recipe)
    elif dry_run:
        _dry_run(recipe, accelerate or "none", processes or 1, as_json)
    elif accelerate is not None:
        _relaunch(accelerate, processes)
    else:
        _train(recipe, resume, overwrite, as_json)


def _preview(recipe: Recipe) -> None:
    from taia.reporting.screen import Screen
    from taia.training.forecast.forecast import preview

    screen = Screen()
    screen.print(preview(recipe, marks=not screen.is_terminal), soft_wrap=True)


def _dry_run(recipe: Recipe, sharding: Sharding, processes: int, as_json: bool) -> None:
    from taia.reporting.progress import watched
    from taia.reporting.screen import Screen
    from taia.reporting.training import forecast_table
    from taia.training.forecast.forecast import forecast

    with watched(Screen(stderr=True)) as watch:
        told = forecast(recipe, sharding, processes, watch)
    if as_json:
        say_json(told.to_json())
    else:
        Screen().print(forecast_table(told))


def _train(recipe: Recipe, resume: bool, overwrite: bool, as_json: bool) -> None:
    from taia.reporting.progress import unwatched, watched
    from taia.reporting.screen import Screen
    from taia.reporting.training import write_loss_curve
    from taia.training.run import train as run

    if int(os.environ.get("RANK", "0")) > 0:  # one of several processes speaks for all
        run(recipe, resume=resume, overwrite=overwrite, watch=unwatched)
        return
    with watched(Screen(stderr=True)) as watch:
        done = run(recipe, resume=resume, overwrite=overwrite, watch=watch)
    losses = done.record.losses
    if losses:
        write_loss_curve(done.output / "losses.svg", losses)
    if as_json:
        say_json({"output": str(done.output)} | done.record.to_json())
        return
    screen = Screen()
    went = f"; the loss went from {losses[0]:.3f} to {losses[-1]:.3f}" if losses else ""
    screen.print(
        f"{done.record.trained:,} of {done.record.total:,} parameters trained{went} in "
        f"{done.record.seconds:.0f} s"
    )
    for note in done.record.notes:
        screen.print(f"• {note}")
    kind = "adapter" if recipe.is_adapter else "checkpoint"
    screen.print(f"The {kind} is {done.output}", soft_wrap=True)
    screen.print(
        f"Keep its attention: taia compose {recipe.model_name_or_path} {done.output} --output OUT",
        soft_wrap=True,
    )


def _relaunch(name: str, processes: int | None) -> None:
    """Replaces this process by accelerate's launcher, which starts the same command many times."""
    from taia.training.accelerate import relaunch_command

    command = relaunch_command(
        name, _without(sys.argv[1:], "--accelerate", "--processes"), processes
    )
    sys.stdout.flush()
    os.execvp(command[0], command)


def _without(arguments: list[str], *flags: str) -> list[str]:
    """The arguments without some flags and their values."""
    rest, skip = [], False
    for argument in arguments:
        if not skip and argument.partition("=")[0] not in flags:
            rest.append(argument)
        skip = not skip and argument in flags
    return rest


def _recipe(
    model: str | None, config: Path | None, preset: str | None, resume: bool, keys: dict[str, Any]
) -> Recipe:
    from taia.training.reading import read_recipe
    from taia.training.unused import refuse_unused

    flags = given(keys)
    typed = frozenset(flags)
    if model is not None:
        flags["model_name_or_path"] = model
    if resume and config is None and preset is None:
        from taia.training.folder import unfinished

        if "output_dir" not in flags:
            raise InputError("--resume does not say which run.", "Give its folder with --output.")
        flags = asdict(unfinished(Path(flags["output_dir"]))[0]) | flags
    recipe = read_recipe(flags, config=config, preset=preset)
    refuse_unused(recipe, typed)
    return recipe
