"""What is exported: an adapter or a whole checkpoint, and the base that belongs to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taia.checkpoint.adapters.read import Adapter, read_adapter
from taia.checkpoint.configs import read_config
from taia.checkpoint.folders import holds_adapter
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.kinship import doubts
from taia.checkpoint.locate import Located, home_written_out, is_there, locate
from taia.checkpoint.output.manifest import MANIFEST
from taia.checkpoint.reading import is_file, read_json
from taia.errors import AdapterError, CheckpointError, InputError

if TYPE_CHECKING:
    import torch

    from taia.export.trace import Trace


@dataclass(frozen=True)
class ExportSource:
    """What is exported.

    Attributes:
        place: Where it lies.
        adapter: The adapter, ``None`` for a whole checkpoint.
        record: What ``taia compose`` wrote beside it (``taia_config.json``), empty without one.
        given_base: The base that was given, as it was typed.
    """

    place: Located
    adapter: Adapter | None
    record: Mapping[str, Any]
    given_base: str | None = None

    @property
    def folder(self) -> Path:
        """Its folder."""
        return self.place.path

    @cached_property
    def base(self) -> Located:
        """The adapter's base model: the one given, else the one recorded.

        A name on the hub without a revision is that model as the adapter was trained on it, where
        the adapter says so: ``org/name`` alone does not mean ``org/name@main``.

        Raises:
            CheckpointError: If it is not there.
            DownloadError: If it is on the hub and cannot be fetched.
            InputError: If nothing says which it is.
        """
        name = self._base_name
        if not name:
            raise InputError(
                f"Nothing says what {self.place.given} was trained on.",
                "Give the base model with --base.",
            )
        try:
            return locate(name)
        except CheckpointError as error:
            if self.given_base or _is_path(name):  # there it is, but not sound
                raise
            raise CheckpointError(
                f"{self.place.given} was trained on {name!r}, which is not there.",
                "Give the base model with --base.",
            ) from error

    @property
    def base_at_hand(self) -> Path | None:
        """Where the adapter's base lies, if it is a folder here."""
        name = self._base_name
        return home_written_out(name) if name and _is_path(name) else None

    @property
    def _base_name(self) -> str | None:
        own = self.recorded("base") or self._adapters_own
        name = self.given_base or own
        if name and own and name == own.partition("@")[0] and not _is_path(name):
            return own
        return name

    @property
    def doubts(self) -> tuple[str, ...]:
        """What speaks against the base that was given being the adapter's, and how it is read."""
        if self.adapter is None or self.given_base is None:
            return ()
        if self.base.given != self.given_base:
            return (f"The base is {self.base.given}: that is what the adapter was trained on.",)
        return doubts(self.base.given, self.place.given)

    @property
    def _adapters_own(self) -> str | None:
        """The base in the adapter's config, at its revision, as AutoPeftModel takes it."""
        config = {} if self.adapter is None else self.adapter.config
        name, revision = config.get("base_model_name_or_path"), config.get("revision")
        if not isinstance(name, str) or not name:
            return None
        if not isinstance(revision, str) or not revision or _is_path(name):
            return name  # a folder has no revisions, whatever the config says
        return f"{name}@{revision}"

    @property
    def speakers(self) -> tuple[Located, ...]:
        """Whose tokenizer it speaks with: its own if it has one, else the base's."""
        return (self.place,) if self.adapter is None else (self.place, self.base)

    @property
    def local_names(self) -> frozenset[str]:
        """Paths, as they were typed or recorded, by which cards may call it or its base."""
        names = [str(self.folder), str(self.folder.resolve()), self.given_base, self._adapters_own]
        names += [] if self.place.repo else [self.place.given]
        for side in ("base", "tuned"):
            origin = self.record.get(side)
            names += [origin.get("path")] if isinstance(origin, dict) else []
        local = (name for name in names if isinstance(name, str) and re.search(r"[/\\]", name))
        return frozenset(n for n in local if Path(n).is_absolute() or _is_path(n))

    @cached_property
    def base_config(self) -> Mapping[str, Any]:
        """The base's ``config.json``.

        Raises:
            CheckpointError: If it has none.
        """
        config = read_config(self.base.path)
        if config is None:
            raise CheckpointError(f"{self.base.given} has no config.json.", "Give a model folder.")
        return config

    @cached_property
    def trace(self) -> tuple[Trace, torch.Tensor | None]:
        """What it says, and for an adapter its base; loaded on first use."""
        from taia.export.trace import source_trace

        return source_trace(self)

    def recorded(self, side: str) -> str | None:
        """Where taia_config.json says the "base" or "tuned" was, as :func:`locate` takes it."""
        origin = self.record.get(side)
        if not isinstance(origin, dict):
            return None
        repo, commit, path = (
            value if isinstance(value := origin.get(key), str) else None
            for key in ("repo", "commit", "path")
        )
        return f"{repo}@{commit}" if repo and commit else repo or path


def _is_path(name: str) -> bool:
    return is_there(home_written_out(name))


def read_source(given: str | Path, base: str | None = None) -> ExportSource:
    """Finds and checks what is to be exported; no tensor is loaded.

    Args:
        given: A folder or hub name: a PEFT adapter or a whole checkpoint, composed or not.
        base: The adapter's base model, where what the adapter says of it does not hold here.

    Raises:
        AdapterError: If it is an adapter that taia or PEFT cannot read.
        CheckpointError: If there is no model, or it is damaged.
        DownloadError: If a hub name cannot be fetched.
    """
    place = locate(given)
    if not place.path.is_dir():
        raise CheckpointError(
            f"{place.given} is a file.", "Give the folder that holds the model or adapter."
        )
    record = read_json(place.path / MANIFEST) if is_file(place.path / MANIFEST) else {}
    if not holds_adapter(place.path):
        Checkpoint.open(place.path)
        return ExportSource(place, None, record, base)
    adapter = read_adapter(place.path)
    for update in adapter.updates:
        for part in update.parts.values():
            if part.name != part.tensor:
                raise AdapterError(
                    f"{place.given} calls a tensor {part.tensor!r}, which PEFT would ignore.",
                    "Write it with PEFT's names first: taia compose BASE DIR --keep tuned.",
                )
    return ExportSource(place, adapter, record, base)
