"""What can be told of a model before it is loaded: its anatomy, by its files' headers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from taia.anatomy import Anatomy, TensorInfo
from taia.checkpoint.alignment import refuse_wrapped
from taia.checkpoint.folders import holds_adapter
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.locate import Located, locate
from taia.errors import CheckpointError, TaiaError, blaming
from taia.selection import Selection


def anatomy_of(given: str | Path, declare: Mapping[str, str] | None = None) -> Anatomy:
    """Reads a model's anatomy from its files' headers, without torch.

    Args:
        given: A folder or hub name: a safetensors checkpoint; a PEFT adapter, whose tensors are
            labelled as the modules they change; or a folder with only a ``config.json``, whose
            model is built without weights (this one needs transformers).
        declare: Pattern of a tensor's name → component, for names that anatomy does not know.

    Raises:
        CheckpointError: If there is nothing readable.
        AnatomyError: If a tensor has no label.
    """
    folder = locate(given).path
    if holds_adapter(folder):
        return _of_adapter(folder, declare)
    if _is_config_alone(folder):
        return _of_config(folder, declare)
    checkpoint = Checkpoint.open(folder)
    refuse_wrapped(checkpoint)
    infos = (TensorInfo(e.name, tuple(e.shape), e.dtype) for e in checkpoint.tensors.values())
    return Anatomy.of_tensors(infos, checkpoint.config, declare)


def look_ahead(
    base: str | Path,
    tuned: str | Path | None,
    selections: Iterable[str],
    declare: Mapping[str, str] | None = None,
) -> list[Located]:
    """Find models, and refuse selections with names that mean nothing in them.

    Only files' headers are read, without torch.

    Args:
        base: A folder or hub name.
        tuned: Likewise, or none.
        selections: What is to be kept.
        declare: Pattern of a tensor's name → component, for names that anatomy does not know.

    Returns:
        Where the models lie.

    Raises:
        CheckpointError: If one is not there.
        DownloadError: If it cannot be fetched.
        SelectionError: If a name is no mode, no component, and nothing in the base.
    """
    places = [locate(given) for given in (base, tuned) if given is not None]
    if holds_adapter(places[0].path):
        return places
    try:
        anatomy = anatomy_of(places[0].path, declare)
    except TaiaError:  # what loads it will say what is wrong with it
        return places
    # transformers fuses the experts of a file, under other names.
    if all(label.component != "experts" for label in anatomy.values()):
        for text in selections:
            Selection.parse(text).check_names(anatomy)
    return places


def _of_adapter(folder: Path, declare: Mapping[str, str] | None) -> Anatomy:
    from taia.checkpoint.adapters.names import name_of
    from taia.checkpoint.adapters.place import with_experts
    from taia.checkpoint.adapters.read import read_adapter

    adapter = read_adapter(folder)
    parameters = dict.fromkeys(update.parameter for update in adapter.updates)
    plain = Anatomy.of_tensors(map(TensorInfo, parameters), None, declare)
    labels = with_experts(adapter, plain, lambda update: update.parameter)
    of = {
        part.tensor: labels[name_of(update.kind, update.parameter)]
        for update in adapter.updates
        for part in update.parts.values()
    }
    return Anatomy(
        replace(of[name], tensor=TensorInfo(name, tuple(entry.shape), entry.dtype))
        for name, entry in adapter.entries.items()
    )


def _is_config_alone(folder: Path) -> bool:
    weights = (".safetensors", ".index.json", ".bin", ".gguf", ".pt", ".pth")
    return (folder / "config.json").is_file() and not any(
        path.name.endswith(weights) for path in folder.iterdir()
    )


def _of_config(folder: Path, declare: Mapping[str, str] | None) -> Anatomy:
    try:
        from transformers import AutoConfig
    except ImportError as error:
        raise CheckpointError(
            f"{folder} has a config.json and no weights, and transformers is not installed",
            "install it with: pip install 'taia[torch]'",
        ) from error
    with blaming(
        CheckpointError,
        f"{folder / 'config.json'} is no config of a model that transformers can make",
        "check its model_type, or update transformers",
    ):
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        return Anatomy.of_config(config, declare)
