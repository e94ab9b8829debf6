"""One forward pass of any causal model, and what its cache allows."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch

from taia.runtime.caches import cache_name, cache_of
from taia.runtime.layers import token_embedding

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

#: Keys and values of all tokens, in some layers of the last ones only, or anything else.
CacheKind: TypeAlias = Literal["whole", "window", "state"]

#: Part of the logits' spread by which padding may move a logit: rounding does less, a position that
#: is off by one does more.
MOVED = 0.01


class Forward:
    """A model's forward pass that computes logits only where they are asked for.

    Attributes:
        device: Where the tokens go.
        dtype: Of the weights that are not quantised.
        takes_positions: Whether positions can be given.
    """

    def __init__(self, model: PreTrainedModel | PeftModel) -> None:
        inner: Any = model
        if hasattr(inner, "get_base_model"):
            inner = inner.get_base_model()
        parameters = inspect.signature(inner.forward).parameters
        self._model: Any = model
        self._keeps = "logits_to_keep" in parameters
        self._cache = cache_name(parameters)
        self.takes_positions = "position_ids" in parameters
        self._head: Any = inner.get_output_embeddings()
        self.device: torch.device = token_embedding(inner).weight.device
        self.dtype: torch.dtype = inner.dtype

    def __call__(
        self,
        ids: torch.Tensor,
        keep: int,
        cache: Any = None,  # noqa: ANN401 - each architecture has its own
        **options: Any,  # noqa: ANN401 - as above
    ) -> tuple[torch.Tensor, Any]:
        """Run tokens.

        Args:
            ids: Tokens ``[rows, positions]``.
            keep: At how many of the last positions logits are wanted.
            cache: What to go on from, and to fill; whatever the model calls it.
            options: Of the model's forward; those that are None are left out.

        Returns:
            Logits ``[rows, keep, vocabulary]``, and the model's whole output.
        """
        if self._keeps:
            options["logits_to_keep"] = keep
        options[self._cache] = cache
        options = {key: value for key, value in options.items() if value is not None}
        with self._whole_rows():
            out = self._model(input_ids=ids.to(self.device), **options)
        return out.logits[:, -keep:], out

    @contextmanager
    def _whole_rows(self) -> Iterator[None]:
        """What the head is given made contiguous, as else it is multiplied row by row.

        A slice of the positions is not contiguous; PyTorch multiplies such by a matrix that needs
        no gradient as a batch, for which it copies the matrix once for each row.
        """
        if self._head is None:
            yield
            return
        hook = self._head.register_forward_pre_hook(
            lambda _, given: (given[0].contiguous(), *given[1:])
        )
        try:
            yield
        finally:
            hook.remove()


@contextmanager
def without_dropout(model: PreTrainedModel | PeftModel) -> Iterator[None]:
    """A model that is not training, for a while."""
    training = model.training
    if training:
        model.eval()
    try:
        yield
    finally:
        if training:
            model.train()


@contextmanager
def at_rest(model: PreTrainedModel | PeftModel) -> Iterator[None]:
    """A model without gradients and dropout, for a while."""
    with without_dropout(model), torch.inference_mode():
        yield


def cache_kind(model: PreTrainedModel | PeftModel) -> CacheKind:
    """What a model keeps of the tokens it has read, found by letting it read one."""
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    with at_rest(model):
        probe = torch.zeros(1, 1, dtype=torch.long)
        cache: Any = cache_of(Forward(model)(probe, 1, use_cache=True)[1])
    layers: list[Any] = cache.layers if type(cache) is DynamicCache else []
    kinds = {type(layer) for layer in layers}
    if (
        not layers
        or not kinds <= {DynamicLayer, DynamicSlidingWindowLayer}
        or not all(layer.get_seq_length() for layer in layers)
    ):
        return "state"
    return "whole" if kinds == {DynamicLayer} else "window"


def can_share(model: PreTrainedModel | PeftModel) -> bool:
    """Whether a prompt's cache can be cut, joined and continued by several tokens.

    True for keys and values, whole or in a sliding window. False for recurrent states (Mamba,
    linear attention and hybrids): several tokens after a state need kernels that few models have,
    and the others silently start from nothing.
    """
    return cache_kind(model) != "state"


def can_pad(model: PreTrainedModel | PeftModel) -> bool:
    """Whether a row that is padded on its left gives what it gives alone.

    A model that is given positions can. One that finds them itself is tried: ALiBi from the mask,
    or relative, passes; learned positions counted from the first column do not.
    """
    forward = Forward(model)
    if forward.takes_positions:
        return True
    with at_rest(model):
        alone = forward(torch.tensor([[1, 2, 3]]), 1)[0].float()
        mask = torch.tensor([[0, 0, 1, 1, 1]], device=forward.device)
        padded = forward(torch.tensor([[0, 0, 1, 2, 3]]), 1, attention_mask=mask)[0].float()
    return bool((alone - padded).abs().max() <= MOVED * alone.std())
