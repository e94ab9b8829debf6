"""What a folder holds: a whole model, an adapter, both, models further down, or another format."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from taia.checkpoint.configs import read_config
from taia.checkpoint.reading import is_file, read_json, unreadable
from taia.errors import CheckpointError

#: A checkpoint in one file.
SINGLE: Final = "model.safetensors"
#: Which tensor is in which file, for a checkpoint in several.
INDEX: Final = "model.safetensors.index.json"
#: What makes a folder an adapter.
ADAPTER_CONFIG: Final = "adapter_config.json"
#: An adapter's weights.
_ADAPTER_WEIGHTS: Final = ("adapter_model.safetensors", "adapter_model.bin")
#: Whole weights as transformers calls them, opened here or not; numbered, where they are several.
_WHOLE: Final = re.compile(
    r"(?:model|pytorch_model)(?:-\d+-of-\d+)?\.(?:safetensors|bin)(?:\.index\.json)?"
)

#: What libraries read of a model folder without being told to.
_READ: Final = (".json", ".jinja", ".safetensors", ".model", ".tiktoken", ".txt")
#: Where they look for more of these.
_TEMPLATES: Final = "additional_chat_templates"

#: How far down models are looked for, in how many files, and how many are named.
_DEPTH: Final = 4
_MOST_FILES: Final = 5000
_MOST_NAMED: Final = 6


class _Format(NamedTuple):
    """Weights that taia does not open: how their files are called, what they are, what helps."""

    endings: tuple[str, ...]
    what: str
    mend: str


#: What a trainer keeps to go on with, beside weights.
_STATE: Final = re.compile(
    r"(optimizer|scheduler|rng_state|scaler|training_args)\b.*|rng_state_\d+.*"
)
#: One of several files of a checkpoint.
_NUMBERED: Final = re.compile(r".*-\d+-of-\d+\.safetensors")

_CONVERT: Final = (
    "Convert it once: AutoModelForCausalLM.from_pretrained(PATH{}).save_pretrained(NEW) in "
    "transformers{} writes safetensors."
)
_LOAD: Final = (
    "Give a safetensors copy if there is one; or load them once into the model that they are of "
    "(torch.load(FILE, weights_only=True)): its save_pretrained(NEW) writes safetensors."
)
_FORMATS: Final = (
    _Format(
        (".distcp",),
        "shards of torch.distributed.checkpoint (.distcp), as FSDP saves them",
        "Gather them: `accelerate merge-weights PATH NEW` writes safetensors, `python -m "
        "torch.distributed.checkpoint.format_utils dcp_to_torch PATH NEW.pt` a pickle.",
    ),
    _Format(
        ("_model_states.pt", "_optim_states.pt"),
        "shards of DeepSpeed's ZeRO",
        "Gather them: `python zero_to_fp32.py . NEW --safe_serialization` in the folder above, "
        "where DeepSpeed put that script.",
    ),
    _Format(
        ("model_optim_rng.pt", "model_rng.pt"),
        "shards of Megatron-LM",
        "Write them as a Hugging Face model with the program that trained it, such as Megatron "
        "Bridge's AutoBridge.export_ckpt.",
    ),
    _Format(
        (".incomplete", ".part", ".crdownload", ".aria2"),
        "a download that has not ended",
        "Download the model again: what is there is gone on with.",
    ),
    _Format(
        (".gguf",),
        "GGUF, whose tensors are quantised in blocks",
        "Give the safetensors checkpoint that it was made from, and convert the result.",
    ),
    _Format((".h5",), "weights of TensorFlow (.h5)", _CONVERT.format(", from_tf=True", " 4")),
    _Format((".msgpack",), "weights of Flax (.msgpack)", _CONVERT.format(", from_flax=True", " 4")),
    _Format(
        (".npz",), "weights of NumPy or MLX (.npz)", "Give the checkpoint that they were made from."
    ),
    _Format(
        (".nemo", ".onnx", ".tflite", ".mlmodel"),
        "a model exported for another engine",
        "Give the safetensors checkpoint that it was made from.",
    ),
    *(
        _Format(
            (ending,),
            f"pickled weights ({ending}), which can run code when they are opened",
            _CONVERT.format("", "") if ending == ".bin" else _LOAD,
        )
        for ending in ("pytorch_model_fsdp.bin", ".bin", ".pt", ".pth", ".ckpt", ".pkl")
    ),
)


def holds_adapter(folder: Path) -> bool:
    """Whether a model is an adapter, by the rule that holds for every command.

    A folder with an adapter and whole weights has two readings. transformers puts the adapter on
    those weights where there is a ``config.json``, and else on the base that the adapter names;
    PEFT, vLLM and llama.cpp see the adapter alone.

    Raises:
        CheckpointError: If it holds both.
    """
    if not is_file(folder / ADAPTER_CONFIG):
        return False
    try:
        found = sorted(filter(_WHOLE.fullmatch, os.listdir(folder)))  # noqa: PTH208 - names alone
    except OSError as error:
        raise unreadable(folder, error) from error
    if not found:
        return True
    whole = next((name for name in (SINGLE, INDEX) if name in found), found[0])
    name = read_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    of = f" of {name}" if name and isinstance(name, str) else ""
    raise CheckpointError(
        f"{folder} holds a whole model ({whole}) and an adapter{of} ({ADAPTER_CONFIG}): either "
        "could be meant, or the one on top of the other.",
        "Give a folder with one of them: move the adapter's files into one of their own, or merge "
        "them with PEFT (merge_and_unload) first.",
    )


def check_files(folder: Path) -> None:
    """Refuse a folder with a file that libraries would read and that must not be opened.

    Raises:
        CheckpointError: If one is a device, a named pipe, or a link that leaves the folder; or if
            ``config.json`` says what no model is.
    """
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except OSError:
        return  # whoever reads it says why it cannot be
    for file in (*(folder / name for name in names), *folder.glob(f"{_TEMPLATES}/*")):
        if file.name.endswith(_READ):
            is_file(file, folder)
    read_config(folder)


def check_whole(path: Path) -> None:
    """Refuse what transformers would find no whole model in, before it loads anything.

    Raises:
        CheckpointError: By what there is instead.
    """
    if not path.is_dir():
        raise CheckpointError(
            f"{path} is one file, and a live model needs more than its weights.",
            "Give the folder, with config.json and tokenizer.",
        )
    if not any(os.path.lexists(path / name) for name in (SINGLE, INDEX)):
        raise refusal(path)
    if not is_file(path / "config.json"):
        raise CheckpointError(
            f"{path} has weights, but no config.json.", "Copy or download config.json as well."
        )


def refusal(path: Path) -> CheckpointError:
    """Why there is no checkpoint at a path, by what there is instead."""
    try:
        files = sorted(f.name for f in path.iterdir() if not f.is_dir()) if path.is_dir() else None
    except OSError as error:
        return CheckpointError(
            f"{path} cannot be listed: {error.strerror or error}.", "Check that you may read it."
        )
    loose = [name for name in files or () if name.endswith(".safetensors")]
    if ADAPTER_CONFIG in (files or ()):
        return CheckpointError(
            f"{path} is an adapter, not a whole checkpoint.",
            "Give it as TUNED beside its base model.",
        )
    if given := [name for name in _ADAPTER_WEIGHTS if name in (files or ())]:
        return CheckpointError(
            f"{path} holds an adapter's weights ({given[0]}), but no {ADAPTER_CONFIG}.",
            f"Copy or download {ADAPTER_CONFIG} as well: it says how to read them.",
        )
    if len(loose) == 1 and not _NUMBERED.fullmatch(loose[0]):
        return CheckpointError(
            f"{path} has no {SINGLE}, but {loose[0]!r}.", f"Give the file: {path / loose[0]}"
        )
    if loose:
        count = f"{len(loose)} safetensors files" if loose[1:] else repr(loose[0])
        return CheckpointError(
            f"{path} has {count} but no {INDEX}.", f"Download or save {INDEX} as well."
        )
    if format_ := _format_of(files or () if path.is_dir() else [path.name]):
        return CheckpointError(f"{path} holds {format_.what}.", format_.mend)
    if files is None:
        return CheckpointError(
            f"{path} is not a safetensors file.", f"Give a folder with {SINGLE} or {INDEX}."
        )
    below, foreign = _below(path)
    if below:
        named = ", ".join(below[:_MOST_NAMED]) + (", …" if len(below) > _MOST_NAMED else "")
        problem = f"{path} holds no model itself, but below it there are: {named}."
        if foreign:
            return CheckpointError(f"{problem[:-1]}, with {foreign.what}.", foreign.mend)
        return CheckpointError(problem, f"Give one of them, such as {path / below[0]}")
    empty = all(f.is_dir() and f.is_symlink() for f in path.iterdir())  # which are not followed
    what = "is empty" if empty else f"holds no safetensors weights, {_DEPTH} folders down either"
    return CheckpointError(f"{path} {what}.", f"Give a folder with {SINGLE} or {INDEX}.")


def _format_of(names: Iterable[str]) -> _Format | None:
    """The first of the known formats that files are in, by their names."""
    names = [name.lower() for name in names if not _STATE.fullmatch(name)]
    found = (f for f in _FORMATS if any(name.endswith(f.endings) for name in names))
    return next(found, None)


def _below(folder: Path) -> tuple[list[str], _Format | None]:
    """Folders further down that hold a model or an adapter; or one in another format, and which."""
    known: list[str] = []
    other: dict[str, _Format | None] = {}
    for where, names in _walk(folder):
        if {SINGLE, INDEX, ADAPTER_CONFIG} & set(names):
            known.append(where)
        elif any(name.endswith(".safetensors") for name in names):
            other[where] = None
        elif format_ := _format_of(names):
            other[where] = format_
    places = sorted(known or other, key=_natural)
    return places, None if known or not other else other[places[0]]


def _walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Folders below, without following links, and the names of their files."""
    seen = 0
    for here, folders, names in os.walk(folder):
        where = Path(here).relative_to(folder)
        seen += len(names) + len(folders)
        if where.parts:
            yield str(where), names
        if len(where.parts) >= _DEPTH or seen > _MOST_FILES:
            folders.clear()


def _natural(where: str) -> tuple[tuple[int, str], ...]:
    """``checkpoint-5`` before ``checkpoint-10``."""
    parts: Iterable[str] = where.replace("-", "/").split("/")
    return tuple((len(part) if part.isdecimal() else 0, part) for part in parts)
