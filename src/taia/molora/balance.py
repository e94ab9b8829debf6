"""The load-balancing losses of one forward pass, from the layers to the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from taia.errors import AdapterError
from taia.molora.routing import Routed, load_balancing_loss


class Balance:
    """Shared by the layers of one model. It takes losses only while the model collects them.

    What is calculated again in the backward pass (activation checkpointing) is therefore not
    counted, and no graph outlives the next forward pass. Layers only hand their routing over, so
    that they do the same the second time.
    """

    def __init__(self) -> None:
        self._routed: list[Routed] = []
        self._mask: torch.Tensor | None = None
        self._open = False
        self._blind = False

    @contextmanager
    def collecting(self, mask: torch.Tensor | None) -> Iterator[None]:
        """Forgets the last pass's losses and takes those of this one.

        Args:
            mask: ``[batch, tokens]``: those that are not padding, ``None`` where all count.
        """
        self.forget()
        self._mask = mask if mask is not None and mask.dim() == 2 else None
        self._open = True
        try:
            yield
        finally:
            self._open = False

    def add(self, routed: Routed) -> None:
        """Takes one layer's routing, if the model is collecting."""
        if not self._open:
            return
        if torch.is_grad_enabled():
            self._routed.append(routed)
        else:
            self._blind = True

    def forget(self) -> None:
        """Drops what was collected, and its graph."""
        self._routed, self._mask, self._blind = [], None, False

    def take(self) -> torch.Tensor:
        """The mean over layers, once: it is forgotten then.

        Raises:
            AdapterError: If there is none.
        """
        if not self._routed:
            problem = "there is no load-balancing loss: the last forward pass collected none"
            mend = "call the PeftModel in training mode, with gradients, before asking for it"
            if self._blind:
                problem = "layers ran without gradients, so the load-balancing loss has none"
                mend = "use activation checkpointing with use_reentrant=False"
            self.forget()
            raise AdapterError(problem, mend)
        losses = [load_balancing_loss(routed, self._mask_of(routed)) for routed in self._routed]
        self.forget()
        return torch.stack([loss.to(losses[0].device) for loss in losses]).mean()

    def _mask_of(self, routed: Routed) -> torch.Tensor | None:
        """Which tokens count, ``None`` where the layer saw others than the model was given."""
        fits = self._mask is not None and self._mask.shape == routed.chosen.shape[:-1]
        return self._mask.to(routed.chosen.device) if self._mask is not None and fits else None

    def __bool__(self) -> bool:
        """Whether layers with experts took part in the last pass."""
        return bool(self._routed) or self._blind
