"""From what people type, a folder: a path as it is, a hub name through the hub's own cache."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from taia.checkpoint.folders import check_files
from taia.errors import CheckpointError, DownloadError, first_line

_HUB_NAME: Final = re.compile(r"(?:[\w][\w.-]{0,95}/)?[\w][\w.-]{0,95}", re.ASCII)
#: What git lets branches and tags be called, and commits.
_REVISION: Final = re.compile(r"[^\s~^:?*\[\\/\x00-\x1f][^\s~^:?*\[\\\x00-\x1f]*")
#: What a composition may need; never pickles, code or training state.
_WANTED: Final = (
    "*.safetensors",
    "*.json",
    "*.jinja",
    "*.model",
    "*.tiktoken",
    "*.txt",
    "LICENSE*",
    "NOTICE*",
)
_UNWANTED: Final = (
    "original/*",
    "onnx/*",
    "openvino/*",
    "coreml/*",
    "runs/*",
    "checkpoint-*/*",
    "consolidated*.safetensors",
)


@dataclass(frozen=True, slots=True)
class Located:
    """A model's place.

    Attributes:
        given: What was typed.
        path: The folder, or the one ``.safetensors`` file.
        repo: Its name on the hub, ``None`` for a path.
        revision: The branch, tag or commit asked for, ``None`` for a path or when none was.
        commit: The commit found, ``None`` for a path.
    """

    given: str
    path: Path
    repo: str | None = None
    revision: str | None = None
    commit: str | None = None


def locate(given: str | Path) -> Located:
    """Find a model: an existing path first, else a hub name ``org/name`` or ``org/name@revision``.

    Hub names go through huggingface_hub and its cache (``HF_HOME``, ``HF_HUB_OFFLINE`` and
    ``HF_TOKEN`` mean what they mean there). A path never touches the network.

    Raises:
        CheckpointError: If it is neither a path nor a name the hub could have, or a folder with
            files that must not be opened.
        DownloadError: If the hub has no such model, or cannot be reached.
    """
    text = str(given)
    path = home_written_out(text)
    if is_there(path):
        if path.is_dir():
            check_files(path)
        return Located(text, path)
    name, _, revision = text.partition("@")
    if name and revision and is_there(home_written_out(name)):
        raise CheckpointError(
            f"{text!r} asks for a revision of a folder on disk.",
            f"Only models on the hub have revisions: give {name!r}.",
        )
    if isinstance(given, Path) or not is_hub_name(text):
        raise CheckpointError(
            f"{text!r} does not exist.", "Give a folder, or a hub name as org/name or org/name@rev."
        )
    folder = _download(text, name, revision or None)
    return Located(text, folder, name, revision or None, folder.name)


def is_hub_name(name: str) -> bool:
    """Whether the hub could have a model of a name, or a revision of one as ``org/name@rev``."""
    name, at, revision = name.partition("@")
    if at and _REVISION.fullmatch(revision) is None:
        return False
    return _HUB_NAME.fullmatch(name) is not None and ".." not in f"{name}{revision}"


def home_written_out(path: str | Path) -> Path:
    """A path with ``~`` written out; as it is where there is no such user."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - pathlib's raises there


def is_there(path: str | Path) -> bool:
    """Whether a path exists; what cannot be a path does not."""
    return os.path.exists(path)  # noqa: PTH110 - pathlib's raises for names that are too long


def _download(given: str, name: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            GatedRepoError,
            HFValidationError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError as error:
        raise CheckpointError(
            f"{given!r} is no folder here, and huggingface_hub is not installed.",
            "Check the path, or install huggingface_hub to use hub names.",
        ) from error
    try:
        return Path(
            snapshot_download(
                name,
                revision=revision,
                allow_patterns=list(_WANTED),
                ignore_patterns=list(_UNWANTED),
            )
        )
    except GatedRepoError as error:
        raise DownloadError(
            f"{given!r} asks for an agreement that this account has not given.",
            f"Accept it at https://huggingface.co/{name} and set HF_TOKEN.",
        ) from error
    except RevisionNotFoundError as error:
        raise DownloadError(
            f"{name!r} has no revision {revision!r}.", "Check the branch, tag or commit."
        ) from error
    except LocalEntryNotFoundError as error:
        raise DownloadError(
            f"{given!r} is no folder here and not in the hub's cache, and the hub was not reached.",
            "Check the path; or connect, or unset HF_HUB_OFFLINE, and try again.",
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise DownloadError(
            f"{given!r} is no folder here, and the hub has no such model (or it is private).",
            "Check the spelling; for a private model set HF_TOKEN.",
        ) from error
    except Exception as error:  # the client's transport errors have no common class
        raise DownloadError(
            f"{given!r} is no folder here and could not be downloaded: {first_line(error)}.",
            "Check the path and the connection, and try again.",
        ) from error
