"""What a formula is given of one tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from taia.anatomy.labels import Label
from taia.errors import MethodError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: float32 or float64.
Array: TypeAlias = "npt.NDArray[np.floating[Any]]"

#: Name of a statistic → what it is of a tensor; of experts, one after another along a first axis.
STATISTICS: Final = MappingProxyType(
    {
        "inputs": "[inputs, inputs]: (2/n) Σ x xᵀ over all tokens of n calibration rows, where x "
        "is what the base model's module is given",
        "sensitivity": "[k]: uᵢᵀ (∂L/∂W) vᵢ for the k singular values of the tensor's Δ, largest "
        "first; L is the tuned model's loss on calibration rows in nats a token, its gradient "
        "summed over W as it is stored",
    }
)


@dataclass(frozen=True)
class Given:
    """One tensor, read when it is asked for.

    Attributes:
        label: What it is; its name seeds what is random, its shape is that of all arrays.
        depth: How many layers its stack has, 0 outside of one.
        read_weight: Gives W_base.
        read_update: Gives Δ.
        read_statistic: Gives a statistic of it by its name, or the ``"unaligned"`` model's tensor;
            ``None`` where the method needs none.
        inputs_first: Whether it is stored [inputs, outputs], as GPT-2's are.
        expert: Which expert's matrix of a stack it is, ``None`` for a whole tensor.
    """

    label: Label
    depth: int
    read_weight: Callable[[], Array]
    read_update: Callable[[], Array]
    read_statistic: Callable[[str], Array] | None = None
    inputs_first: bool = False
    expert: int | None = None

    @classmethod
    def of(
        cls,
        label: Label,
        depth: int,
        weight: Array,
        update: Array,
        statistics: Mapping[str, Array] | None = None,
        *,
        inputs_first: bool = False,
    ) -> Given:
        """What is in memory already, all in the tensor's shape as stored."""
        read = None if statistics is None else statistics.__getitem__
        return cls(label, depth, lambda: weight, lambda: update, read, inputs_first)

    @cached_property
    def weight(self) -> Array:
        """W_base."""
        return self.read_weight()

    @cached_property
    def update(self) -> Array:
        """Δ = W_tuned − W_base."""
        return self.read_update()

    def statistic(self, name: str, shape: tuple[int, ...]) -> Array:
        """What calibration rows gave, by :data:`STATISTICS`; or the unaligned model's tensor.

        Raises:
            MethodError: If it was not given, is of another shape, or holds what is no number.
        """
        import numpy as np

        tensor = self.label.tensor.name
        if self.read_statistic is None:
            raise MethodError(
                f"The method needs {name!r} of {tensor!r}, which was not given.",
                "Give statistics of calibration rows, or use a method that needs none.",
            )
        found = self.read_statistic(name)
        if found.shape != shape:
            raise MethodError(
                f"{name!r} of {tensor!r} is {list(found.shape)} where {list(shape)} is needed.",
                "Give what belongs to this base and this update.",
            )
        if not np.isfinite(found).all():
            raise MethodError(
                f"{name!r} of {tensor!r} holds what is not a finite number.", "Measure it again."
            )
        return found

    def random(self, seed: int) -> np.random.Generator:
        """Numbers that depend on a seed and this tensor's name alone, not on what came before."""
        import numpy as np

        words = f"{seed} {self.expert} {self.label.tensor.name}".encode("utf-8", "backslashreplace")
        return np.random.Generator(np.random.PCG64(int.from_bytes(sha256(words).digest(), "big")))

    def of_expert(self, index: int) -> Given:
        """One expert's matrix of a stack."""
        read = self.read_statistic
        return replace(
            self,
            read_weight=lambda: self.weight[index],
            read_update=lambda: self.update[index],
            read_statistic=None if read is None else lambda name: read(name)[index],
            expert=index,
        )
