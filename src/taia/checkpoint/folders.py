"""What a folder holds: a whole model, an adapter, both, models further down, or another format."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from taia.checkpoint.configs import read_config
from taia.checkpoint.reading import is_file, read_json
from taia.errors import CheckpointError

#: A checkpoint in one file.
SINGLE: Final = "model.safetensors"
#: Which tensor is in which file, for a checkpoint in several.
INDEX: Final = "model.safetensors.index.json"
#: What makes a folder an adapter.
ADAPTER_CONFIG: Final = "adapter_config.json"

#: What libraries read of a model folder without being told to.
_READ: Final = (".json", ".jinja", ".safetensors", ".model", ".tiktoken", ".txt")
#: Where they look for more of these.
_TEMPLATES: Final = "additional_chat_templates"

#: How far down models are looked for, in how many files, and how many are named.
_DEPTH: Final = 3
_MOST_FILES: Final = 5000
_MOST_NAMED: Final = 6


class _Format(NamedTuple):
    """Weights that taia does not open: how their files are called, what they are, what helps."""

    endings: tuple[str, ...]
    what: str
    mend: str


_CONVERT: Final = (
    "Convert it once: AutoModelForCausalLM.from_pretrained(PATH{}).save_pretrained(NEW) in "
    "transformers{} writes safetensors."
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
            _CONVERT.format("", ""),
        )
        for ending in (".bin", ".pt", ".pth", ".ckpt", ".pkl")
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
    whole = next((name for name in (SINGLE, INDEX) if os.path.lexists(folder / name)), None)
    if whole is None:
        return True
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
    if len(loose) == 1:
        return CheckpointError(
            f"{path} has no {SINGLE}, but {loose[0]!r}.", f"Give the file: {path / loose[0]}"
        )
    if loose:
        return CheckpointError(
            f"{path} has {len(loose)} safetensors files but no {INDEX}.",
            f"Download or save {INDEX} as well.",
        )
    for format_ in _FORMATS:
        if any(name.endswith(format_.endings) for name in files or [path.name]):
            return CheckpointError(f"{path} holds {format_.what}.", format_.mend)
    if files is None:
        return CheckpointError(
            f"{path} is not a safetensors file.", f"Give a folder with {SINGLE} or {INDEX}."
        )
    below = _below(path)
    if below:
        named = ", ".join(below[:_MOST_NAMED]) + (", …" if len(below) > _MOST_NAMED else "")
        return CheckpointError(
            f"{path} holds no model itself, but below it there are: {named}.",
            f"Give one of them, such as {path / below[0]}",
        )
    what = "has no safetensors weights" if files else "is empty"
    return CheckpointError(f"{path} {what}.", f"Give a folder with {SINGLE} or {INDEX}.")


def _below(folder: Path) -> list[str]:
    """Folders further down that hold a model or an adapter, or one in another format."""
    endings = tuple(ending for format_ in _FORMATS for ending in format_.endings)
    known, other = [], []
    for where, names in _walk(folder):
        if {SINGLE, INDEX, ADAPTER_CONFIG} & set(names):
            known.append(where)
        elif any(name.endswith((".safetensors", *endings)) for name in names):
            other.append(where)
    return sorted(known, key=_natural) or sorted(other, key=_natural)


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
