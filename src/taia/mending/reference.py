"""A model's logits where tokens count, and the base's beside them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final

import torch

from taia.mending.batches import ExampleBatch
from taia.mending.examples import Example
from taia.runtime.forward import MOVED

if TYPE_CHECKING:
    from taia.runtime.switchable import SwitchableModel


#: The components that a head's weight may be: a tied one is the embedding.
_OF_HEAD: Final = ("head", "embedding")


class Reader:
    """A live model that gives logits at the places of a batch that predict what counts.

    The head is as wide as the vocabulary, so that it is given those places and no others, by
    whatever name the architecture calls it; what comes after it (soft-capping, a scale) is the
    model's own. Of a model that has no such head, which is tried, all logits are made.

    Args:
        model: The model, in whatever mode.
    """

    def __init__(self, model: SwitchableModel) -> None:
        self.model = model
        live: Any = model.model
        plain = live.get_base_model() if hasattr(live, "get_base_model") else live
        self._options: dict[str, Any] = {}
        if "use_cache" in inspect.signature(plain.forward).parameters:
            self._options["use_cache"] = False
        head = live.get_output_embeddings()
        self._head: Any = head if isinstance(head, torch.nn.Module) else None
        self.vocabulary = int(self._whole(torch.zeros(1, 1, dtype=torch.long)).shape[-1])
        if self._head is not None and not self._is_head():
            self._head = None

    @property
    def has_head(self) -> bool:
        """Whether the head can be given what it multiplies."""
        return self._head is not None

    def logits(self, batch: ExampleBatch) -> torch.Tensor:
        """Logits in the mode that the model is in.

        Returns:
            ``[counted, vocabulary]``, in float32 (float64 of a float64 model), with a gradient
            where there is one.
        """
        return self._read(batch)[0]

    def logits_and_inputs(self, batch: ExampleBatch) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The same, and what the head was given: ``[counted, width]``; None without a head."""
        return self._read(batch)

    def of_inputs(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits of what the head is given, in the mode that the model is in.

        The model runs a single token for it, so that what comes after the head is done as well.

        Args:
            inputs: ``[counted, width]``.

        Returns:
            As :meth:`logits`.
        """
        with self._given(lambda _: inputs[None]):
            found = self._whole(torch.zeros(1, 1, dtype=torch.long))
        return _wide(found[0])

    def _read(self, batch: ExampleBatch) -> tuple[torch.Tensor, torch.Tensor | None]:
        rows, columns = batch.rows, batch.columns
        if self._head is None:
            found = self._whole(batch.ids)
            return _wide(found[rows.to(found.device), columns.to(found.device)]), None
        seen: list[torch.Tensor] = []

        def pick(hidden: torch.Tensor) -> torch.Tensor:
            seen.append(hidden[rows.to(hidden.device), columns.to(hidden.device)])
            return seen[0][None]

        with self._given(pick):
            found = self._whole(batch.ids)
        return _wide(found[0]), seen[0]

    def _whole(self, ids: torch.Tensor) -> torch.Tensor:
        out = self.model(input_ids=ids.to(self.model.device), **self._options)
        found: torch.Tensor = out.logits
        return found

    @contextmanager
    def _given(self, instead: Any) -> Iterator[None]:  # noqa: ANN401 - a function of a tensor
        hook = self._head.register_forward_pre_hook(
            lambda _, given: (instead(given[0]), *given[1:]) if given else None
        )
        try:
            yield
        finally:
            hook.remove()

    def _is_head(self) -> bool:
        """Whether places that the head alone is given have the logits that they have among all."""
        ids = torch.tensor([[1, 2, 3], [3, 2, 1]])
        calls = []

        def pick(hidden: torch.Tensor) -> torch.Tensor:
            calls.append(hidden.shape[:2])
            return hidden[[1, 0], [2, 1]][None] if hidden.shape[:2] == ids.shape else hidden

        with torch.no_grad():
            whole = self._whole(ids)
            with self._given(pick):
                some = self._whole(ids)
        if calls != [ids.shape] or some.shape[:2] != (1, 2):
            return False
        whole = whole[[1, 0], [2, 1]].float()
        return bool((some[0].float() - whole).abs().max() <= MOVED * whole.std())


class Reference:
    """Base's own distribution at the places of examples.

    What its head was given is kept, ``[counted, width]``, and not its logits, which are as wide as
    the vocabulary; the head runs again whenever they are wanted, in the mode ``base`` where the
    update changes the head, too.

    Args:
        reader: The model.
        examples: The examples.
        batches: The same, to run.
    """

    def __init__(
        self, reader: Reader, examples: Sequence[Example], batches: Sequence[ExampleBatch]
    ) -> None:
        self._reader = reader
        self._inputs: dict[int, torch.Tensor] = {}
        self._changes_head = any(part.label.component in _OF_HEAD for part in reader.model.changed)
        if not reader.has_head:
            return
        with torch.no_grad(), reader.model.mode("base"):
            for batch in batches:
                inputs = reader.logits_and_inputs(batch)[1]
                assert inputs is not None  # it has a head
                sizes = [len(examples[index].counted) for index in batch.examples]
                for index, part in zip(batch.examples, torch.split(inputs, sizes), strict=True):
                    self._inputs[index] = part.clone()

    def logits(self, batch: ExampleBatch) -> torch.Tensor:
        """Base's logits, whatever mode the model is in.

        Returns:
            ``[counted, vocabulary]``, without a gradient.
        """
        reader = self._reader
        stays = reader.has_head and not self._changes_head
        with torch.no_grad(), nullcontext() if stays else reader.model.mode("base"):
            if not reader.has_head:
                return reader.logits(batch)
            return reader.of_inputs(torch.cat([self._inputs[i] for i in batch.examples]))


def _wide(logits: torch.Tensor) -> torch.Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
