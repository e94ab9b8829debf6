"""What is evaluated: models in memory, or on a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from taia.checkpoint.locate import Located, locate
from taia.checkpoint.output.manifest import MANIFEST
from taia.checkpoint.reading import read_json
from taia.errors import InputError
from taia.evaluation.harness.encoder import Encoder
from taia.evaluation.harness.local import LocalBackend
from taia.evaluation.harness.model import Backend
from taia.evaluation.harness.server import SPARE, ServerBackend
from taia.evaluation.scores.identity import tokenizer_hash, weights
from taia.evaluation.settings import Server, Watch
from taia.loading.devices import device_called
from taia.loading.models import dtype_called, load_config, load_tokenizer, speaker

if TYPE_CHECKING:
    import torch

    from taia.runtime.switchable import SwitchableModel


class Subject(Protocol):
    """What is evaluated."""

    @property
    def base(self) -> str | None:
        """The base model as it was given, if it was."""

    @property
    def tuned(self) -> str | None:
        """The tuned model as it was given, if it was."""

    @property
    def engine(self) -> str:
        """What computes."""

    @property
    def dtype(self) -> str:
        """What is computed in."""

    @property
    def folders(self) -> list[Path]:
        """What is read of the disk."""

    @property
    def has_chat_template(self) -> bool:
        """Whether prompts can be in a chat format."""

    def hashes(self) -> dict[str, Any]:
        """What tells it from any other."""

    def recipe(self) -> dict[str, Any] | None:
        """How it was tuned, where that is on record."""

    def backend(self, modes: Mapping[str, str], watch: Watch) -> Backend:
        """What answers for modes; nothing heavy is done before it is asked."""


class InMemory:
    """Models in memory: the base once, what differs once.

    Prompts are made by the tuned model's tokenizer where it has one, else by the base's: all modes
    see the same.

    Args:
        base: A folder or hub name.
        tuned: A folder or hub name of a model or an adapter; none for the base alone.
        dtype: ``float32``, ``bfloat16`` or ``float16``; by default float32 on a CPU, and what the
            checkpoint is stored in elsewhere.
        device: Where; by default a GPU if there is one.
        rows: How many answers are generated at once.
        four_bits: Whether the base's weights are quantised.
        declare: Pattern of a tensor's name → component, for names that anatomy does not know.

    Raises:
        CheckpointError: If a place holds no model, or there is no tokenizer.
        DownloadError: If one cannot be fetched.
        InputError: If there is no such dtype or device.
    """

    def __init__(
        self,
        base: str | Path,
        tuned: str | Path | None,
        *,
        dtype: str | None = None,
        device: str | None = None,
        rows: int = 32,
        four_bits: bool = False,
        declare: Mapping[str, str] | None = None,
    ) -> None:
        self.base, self.tuned = str(base), None if tuned is None else str(tuned)
        self.engine = "transformers"
        self._device = device_called(device)
        self._dtype = None if dtype is None else dtype_called(dtype)
        self.dtype = dtype or ("float32" if self._device == "cpu" else "checkpoint")
        if four_bits:
            self.dtype += ", 4-bit base"
        self._four_bits, self._rows, self._declare = four_bits, rows, declare
        self._base = locate(base)
        self._tuned = None if tuned is None else locate(tuned)
        self.folders = [place.path for place in (self._base, self._tuned) if place is not None]
        self._tokenizer = load_tokenizer(speaker(self._base, self._tuned))

    @property
    def has_chat_template(self) -> bool:  # noqa: D102
        return self._tokenizer.chat_template is not None

    def hashes(self) -> dict[str, Any]:  # noqa: D102
        return {
            "base": weights(self._base),
            "tuned": None if self._tuned is None else weights(self._tuned),
            "tokenizer": tokenizer_hash(self._tokenizer),
            # What a mode keeps depends on it.
            **({"declare": dict(self._declare)} if self._declare else {}),
        }

    def recipe(self) -> dict[str, Any] | None:  # noqa: D102
        file = None if self._tuned is None else self._tuned.path / MANIFEST
        record = read_json(file) if file is not None and file.is_file() else {}
        return record if record.get("kind") == "training" else None

    def backend(self, modes: Mapping[str, str], watch: Watch) -> Backend:  # noqa: D102
        def load() -> SwitchableModel:
            from taia.runtime.switchable import SwitchableModel

            watch("Loading the model", 0, None)
            return SwitchableModel.load(
                self._base.path,
                None if self._tuned is None else self._tuned.path,
                modes,
                dtype=self._dtype,
                device=self._device,
                declare=self._declare or None,
                check_pair=False,  # who gave their names has
                **(_four_bits(self._dtype) if self._four_bits else {}),
            )

        encoder = Encoder(load_config(self._base), self._tokenizer)
        return LocalBackend(encoder, load, self._rows)


class Live(InMemory):
    """Models in memory that are loaded already: they are not loaded again.

    Args:
        places: What was loaded, base and tuned.
        model: The live model; modes that are asked are named in it beforehand or here.
        rows: How many answers are generated at once.
        declare: As the model was loaded with.

    Attributes:
        methods: Mode → the method that is between the update and its selection, where there is
            one: results depend on it.
    """

    def __init__(
        self,
        places: tuple[Located, Located],
        model: SwitchableModel,
        *,
        rows: int = 32,
        declare: Mapping[str, str] | None = None,
    ) -> None:
        base, tuned = places
        super().__init__(base.path, tuned.path, rows=rows, declare=declare)
        self.base, self.tuned = base.given, tuned.given
        self.dtype = str(model.dtype).removeprefix("torch.")
        self._live = model
        self.methods: dict[str, str] = {}

    def hashes(self) -> dict[str, Any]:  # noqa: D102
        return {**self._hashes, **({"methods": self.methods} if self.methods else {})}

    @cached_property
    def _hashes(self) -> dict[str, Any]:
        return super().hashes()

    def backend(self, modes: Mapping[str, str], watch: Watch) -> LocalBackend:  # noqa: D102
        for name, selection in modes.items():
            if name not in self._live.modes:
                self._live.add_mode(name, selection)
        return LocalBackend(
            Encoder(load_config(self._base), self._tokenizer), self._loaded, self._rows
        )

    def _loaded(self) -> SwitchableModel:
        return self._live


class OnServer:
    """Models on a server.

    Args:
        server: The server.
        base: A folder or hub name whose tokenizer is the models'; without, nothing is rated.
        modes: The modes that it has a model for.
        rows: How many requests are under way at once.

    Raises:
        InputError: If a model is named for a mode that is not asked for.
        CheckpointError: If the base has no tokenizer.
        DownloadError: If it cannot be fetched.
    """

    def __init__(
        self, server: Server, base: str | Path | None, modes: Sequence[str], *, rows: int
    ) -> None:
        if strange := [mode for mode in server.models if mode not in modes]:
            raise InputError(
                f"--model-of names {strange[0]!r}, which is no mode of this run.",
                f"The modes are {', '.join(modes)}.",
            )
        self.base, self.tuned, self.dtype = None if base is None else str(base), None, "server"
        self.engine = "server"
        self._server, self._rows = server, rows
        self._ids = {mode: server.models.get(mode, mode) for mode in modes}
        place = None if base is None else locate(base)
        self.folders = [] if place is None else [place.path]
        self._encoder = (
            None if place is None else Encoder(load_config(place), load_tokenizer(place), SPARE)
        )

    @property
    def has_chat_template(self) -> bool:  # noqa: D102
        return self._encoder is None or self._encoder.tokenizer.chat_template is not None

    def hashes(self) -> dict[str, Any]:
        """Its address and the models' ids: their weights cannot be known from here."""
        encoder = self._encoder
        return {
            "server": {"url": self._server.url, "models": self._ids},
            "tokenizer": None if encoder is None else tokenizer_hash(encoder.tokenizer),
        }

    def recipe(self) -> None:
        """Not known."""

    def backend(self, modes: Mapping[str, str], watch: Watch) -> Backend:  # noqa: D102
        return ServerBackend(self._server, self._encoder, self._rows)


def _four_bits(dtype: torch.dtype | None) -> dict[str, Any]:
    import torch
    import transformers

    config: Any = transformers.BitsAndBytesConfig
    return {
        "quantization_config": config(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=dtype or torch.bfloat16,
        )
    }
