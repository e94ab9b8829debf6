"""From a preset, a YAML file and flags to a checked recipe."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from taia.errors import InputError
from taia.selection import Selection
from taia.text import closest, wanted
from taia.training.data.formats import find_format
from taia.training.recipe import Recipe

#: Key → the file of transformers, and the enumeration or registry in it that its names are from.
_NAMED: Final[Mapping[str, tuple[str, str]]] = {
    "optim": ("training_args.py", "OptimizerNames"),
    "lr_scheduler_type": ("trainer_utils.py", "SchedulerType"),
    "attn_implementation": ("modeling_utils.py", "AttentionInterface"),
}
#: Attention of the hub, as transformers writes it: org/name[@version][:name].
_KERNEL: Final = re.compile(r"(?:paged\|)?[^/:|]+/[^/:]+(?::[^/:]+)?")
#: Modules that bring FlashAttention; transformers fetches it with the first one.
_FLASH: Final = ("kernels", "flash_attn", "flash_attn_interface")
#: Schedules that the loss on rows held out decides.
_BY_LOSS: Final = ("reduce_lr_on_plateau", "greedy")
_PRESETS: Final = Path(__file__).parent / "presets"
_KEYS: Final = tuple(field.name for field in fields(Recipe))
#: Where a run can be reported to: the modules that do it.
_REPORTERS: Final = ("tensorboard", "wandb", "trackio", "mlflow", "comet_ml", "swanlab")
#: Key → the least it may be, and whether that itself is allowed.
_LEAST: Final[Mapping[str, tuple[float, bool]]] = {
    "lora_r": (1, True),
    "lora_alpha": (0, False),
    "lora_dropout": (0, True),
    "num_experts": (1, True),
    "top_k": (1, True),
    "shared_expert": (0, True),
    "router_aux_loss_coef": (0, True),
    "max_samples": (1, True),
    "max_length": (2, True),
    "learning_rate": (0, False),
    "num_train_epochs": (0, False),
    "per_device_train_batch_size": (1, True),
    "gradient_accumulation_steps": (1, True),
    "warmup_steps": (0, True),
    "weight_decay": (0, True),
    "max_grad_norm": (0, True),
    "regulariser_strength": (0, True),
    "fisher_samples": (1, True),
    "logging_steps": (1, True),
    "save_steps": (0, True),
    "save_total_limit": (1, True),
    "eval_steps": (0, True),
    "early_stopping_patience": (0, True),
}


def presets() -> dict[str, Path]:
    """Name → file of the recipes that ship with taia."""
    return {path.stem: path for path in sorted(_PRESETS.glob("*.yaml"))}


def read_recipe(
    flags: Mapping[str, Any] | None = None,
    *,
    config: Path | None = None,
    preset: str | None = None,
) -> Recipe:
    """The recipe that a preset, a file and flags make together; flags win over file over preset.

    Args:
        flags: Key → value, of what was given.
        config: A YAML file of keys and values.
        preset: The name of one of :func:`presets`.

    Raises:
        InputError: If a file cannot be read, or a key or a value is wrong. The message names it.
    """
    values: dict[str, Any] = {}
    if preset is not None:
        known = presets()
        if preset not in known:
            near = closest(preset, known)
            hint = f"Did you mean {near}? " if near else ""
            raise InputError(
                f"There is no preset {preset!r}.", f"{hint}The presets are: {', '.join(known)}."
            )
        values |= _read(known[preset])
    if config is not None:
        values |= _read(config)
    values |= flags or {}
    recipe = _typed(values)
    check(recipe)
    return recipe


def check(recipe: Recipe) -> None:
    """Refuses values that are of the right type and still cannot be.

    Raises:
        InputError: Naming the key.
    """
    for key, (least, allowed) in _LEAST.items():
        value = getattr(recipe, key)
        if value is None:
            continue
        if not math.isfinite(value) or value < least or (value == least and not allowed):
            bound = "at least" if allowed else "more than"
            raise _wrong(key, value, f"it must be {bound} {least:g}")
    if recipe.lora_dropout >= 1:
        raise _wrong("lora_dropout", recipe.lora_dropout, "it must be below 1")
    if recipe.max_steps != -1 and recipe.max_steps < 1:
        raise _wrong("max_steps", recipe.max_steps, "it must be at least 1, or -1 for none")
    if recipe.top_k > recipe.num_experts:
        raise _wrong("top_k", recipe.top_k, f"there are only {recipe.num_experts} experts")
    if recipe.bf16 and recipe.fp16:
        raise _wrong("fp16", True, "bf16 is asked for as well")
    if recipe.use_dora and recipe.technique not in ("lora", "qlora"):
        raise _wrong("use_dora", True, f"{recipe.technique} has no DoRA")
    if recipe.regulariser != "none" and not recipe.regulariser_strength:
        raise _wrong("regulariser_strength", 0, f"{recipe.regulariser} without strength is nothing")
    if recipe.regulariser == "ewc" and not recipe.fisher_data:
        raise _wrong("fisher_data", [], "EWC measures the Fisher information on general data")
    if recipe.early_stopping_patience and not recipe.validation:
        raise _wrong(
            "early_stopping_patience", recipe.early_stopping_patience, "it needs validation"
        )
    if recipe.lr_scheduler_type in _BY_LOSS and not recipe.validation:
        raise _wrong("lr_scheduler_type", recipe.lr_scheduler_type, "it needs validation")
    if recipe.packing and recipe.mixing != "uniform":
        raise _wrong("mixing", recipe.mixing, "packing changes the order of documents")
    for key, (file, kind) in _NAMED.items():
        value = getattr(recipe, key)
        if key == "attn_implementation" and (value is None or _is_kernel(value)):
            continue
        plain = ("eager",) if key == "attn_implementation" else ()  # which no registry has
        _check_name(key, value, (*plain, *_members(file, kind)))
    if recipe.format is not None:
        find_format((), "", recipe.format)
    for name in recipe.report_to:
        if name not in _REPORTERS:
            raise _wrong("report_to", name, f"it is none of {', '.join(_REPORTERS)}")
        if find_spec(name) is None:
            raise _wrong("report_to", name, f"it is not installed (pip install {name})")
    for selection in (recipe.train, *recipe.lora_ranks, *recipe.learning_rates):
        Selection.parse(selection)
    for key in ("lora_ranks", "learning_rates"):
        for selection, value in getattr(recipe, key).items():
            if not (value > 0 and math.isfinite(value)):
                raise _wrong(key, f"{selection}={value}", "it must be more than 0")


def changed(recipe: Recipe) -> dict[str, Any]:
    """The keys of a recipe that are not at their default, with their values."""
    plain = asdict(Recipe())
    return {key: value for key, value in asdict(recipe).items() if value != plain[key]}


def to_yaml(recipe: Recipe) -> str:
    """A recipe as a YAML file that reads back as the same recipe; defaults are left out."""
    import yaml

    return str(yaml.safe_dump(changed(recipe), sort_keys=False, allow_unicode=True))


def _read(path: Path) -> dict[str, Any]:
    import yaml

    mend = "Give a YAML file of keys and values, such as docs/training.md shows."
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read: {reason}.", mend) from error
    except (yaml.YAMLError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        what = getattr(error, "problem", None) or error
        raise InputError(f"{path}{line} is not YAML: {what}.", mend) from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(f"{path} holds a {type(values).__name__}, not keys and values.", mend)
    for key in values:
        _check_key(str(key), str(path))
    if isinstance(values.get("data"), str):
        values["data"] = [values["data"]]
    return values


def _check_key(key: str, where: str) -> None:
    if key in _KEYS:
        return
    near = closest(key.replace("-", "_"), _KEYS)
    hint = f"Did you mean {near}? " if near else ""
    raise InputError(
        f"{where}: there is no key {key!r}.", f"{hint}`taia train --help` has them all."
    )


def _typed(values: Mapping[str, Any]) -> Recipe:
    from pydantic import TypeAdapter, ValidationError

    for key in values:
        _check_key(key, "recipe")
    try:
        return TypeAdapter(Recipe).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        raise _wrong(key, values[key], wanted(first)) from error


def _check_name(key: str, value: str, known: Sequence[str]) -> None:
    if value in known or not {*known} - {"eager"}:
        return
    near = closest(value, known)
    hint = f"Did you mean {near}? " if near else ""
    raise InputError(
        f"{key} cannot be {value!r}: transformers knows no such name.",
        f"{hint}It knows {', '.join(known)}.",
    )


def _is_kernel(attention: str) -> bool:
    """Whether a kind of attention comes from the hub's kernels.

    Raises:
        InputError: If it needs a package that is not installed.
    """
    is_kernel = _KERNEL.fullmatch(attention) is not None
    needed = ("kernels",) if is_kernel else _FLASH if attention.startswith("flash_att") else ()
    if needed and not any(find_spec(module) for module in needed):
        raise InputError(
            f"attn_implementation {attention} needs {needed[0]}, which is not installed.",
            f"pip install {needed[0]}, or choose sdpa or eager.",
        )
    return is_kernel


@cache
def _members(file: str, kind: str) -> tuple[str, ...]:
    """The names in one of transformers' enumerations, of its text: to import it takes seconds.

    Empty where that cannot be told; transformers itself then refuses what it does not know.
    """
    spec = find_spec("transformers")
    for place in (spec and spec.submodule_search_locations) or ():
        with suppress(OSError, SyntaxError, ValueError):
            for node in ast.parse((Path(place) / file).read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and node.name == kind:
                    values = [line.value for line in node.body if isinstance(line, ast.Assign)]
                    of = [v.keys if isinstance(v, ast.Dict) else [v] for v in values]
                    plain = (n.value for names in of for n in names if isinstance(n, ast.Constant))
                    return tuple(value for value in plain if isinstance(value, str))
    return ()


def _wrong(key: str, value: object, why: str) -> InputError:
    return InputError(
        f"{key} cannot be {value!r}: {why}.",
        f"Change {key}; `taia train --help` tells what it does.",
    )
