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
        self._known: dict[tuple[TensorInfo, ...], tuple[Mapping[str, Any] | None, Anatomy]] = {}

    def __call__(self, tensors: Iterable[TensorInfo], config: Mapping[str, Any] | None) -> Anatomy:
        """The labels of all tensors of one model, by name.

        Args:
            tensors: The tensors.
            config: What the model's ``config.json`` says.

        Raises:
            AnatomyError: If a tensor has no label.
        """
        key = tuple(tensors)
        known = self._known.get(key)
        if known is None or known[0] != config:
            known = self._known[key] = config, Anatomy.of_tensors(key, config, self._declare)
        return known[1]
