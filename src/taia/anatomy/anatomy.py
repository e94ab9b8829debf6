"""The anatomy of a model: every tensor's label, from whatever there is to read it from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from taia.anatomy.label import label_all
from taia.anatomy.labels import Label, TensorInfo
from taia.anatomy.layouts import with_layouts

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig


class Anatomy(Mapping[str, Label]):
    """Every tensor's name → its label, in the model's order.

    Each tensor is labelled exactly once. Names decide; the config tells how rows divide into heads.
    """

    def __init__(self, labels: Iterable[Label]) -> None:
        self._labels = {label.tensor.name: label for label in labels}

    def __getitem__(self, name: str) -> Label:
        return self._labels[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._labels)

    def __len__(self) -> int:
        return len(self._labels)

    @classmethod
    def of_tensors(
        cls,
        tensors: Iterable[TensorInfo],
        config: Mapping[str, Any] | None = None,
        declare: Mapping[str, str] | None = None,
    ) -> Anatomy:
        """The anatomy of tensors by their names. Imports no torch.

        Args:
            tensors: All tensors of one model.
            config: What ``config.json`` says; without it no row is told apart from another.
            declare: Pattern of a tensor's full name (``*`` and ``?``) → component, tried first.

        Raises:
            AnatomyError: If a tensor has no label.
        """
        return cls(with_layouts(label_all(tensors, declare or {}), config))

    @classmethod
    def of_model(cls, model: nn.Module, declare: Mapping[str, str] | None = None) -> Anatomy:
        """The anatomy of a live model, by its runtime names.

        Raises:
            AnatomyError: If a tensor has no label.
        """
        config = getattr(model, "config", None)
        tensors = (
            TensorInfo(name, tuple(tensor.shape), _dtype(str(tensor.dtype)))
            for name, tensor in model.state_dict().items()
        )
        return cls.of_tensors(tensors, config.to_dict() if config is not None else None, declare)

    @classmethod
    def of_config(
        cls, config: PreTrainedConfig, declare: Mapping[str, str] | None = None
    ) -> Anatomy:
        """The anatomy of the causal language model a config describes; no weights are made.

        Raises:
            AnatomyError: If a tensor has no label.
        """
        import torch
        from transformers import AutoModelForCausalLM

        with torch.device("meta"):
            return cls.of_model(AutoModelForCausalLM.from_config(config), declare)  # type: ignore[no-untyped-call]


_DTYPES = {
    "torch.float64": "F64",
    "torch.float32": "F32",
    "torch.float16": "F16",
    "torch.bfloat16": "BF16",
    "torch.int64": "I64",
    "torch.int32": "I32",
    "torch.int16": "I16",
    "torch.int8": "I8",
    "torch.uint8": "U8",
    "torch.bool": "BOOL",
    "torch.float8_e4m3fn": "F8_E4M3",
    "torch.float8_e5m2": "F8_E5M2",
}


def _dtype(name: str) -> str:
    """The safetensors name of a torch dtype."""
    return _DTYPES.get(name, name.removeprefix("torch.").upper())
