"""Labels of a checkpoint's tensors, worked out once however often they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from taia.anatomy import Anatomy, TensorInfo


class Labeller:
    """Labels the tensors of one composition: the same tensors are never labelled twice.

    Args:
        declare: Pattern of a tensor's name → component, for names that anatomy does not know.
    """

    def __init__(self, declare: Mapping[str, str] | None = None) -> None:
        self._declare = declare
        self._known: list[tuple[tuple[TensorInfo, ...], Mapping[str, Any] | None, Anatomy]] = []

    def __call__(self, tensors: Iterable[TensorInfo], config: Mapping[str, Any] | None) -> Anatomy:
        """The labels of all tensors of one model, by name.

        Args:
            tensors: The tensors.
            config: What the model's ``config.json`` says.

        Raises:
            AnatomyError: If a tensor has no label.
        """
        some = tuple(tensors)
        for others, its_config, anatomy in self._known:
            if others == some and its_config == config:
                return anatomy
        self._known.append((some, config, Anatomy.of_tensors(some, config, self._declare)))
        return self._known[-1][2]
