"""A tensor between the base's and the tuned model's, at an α that a gradient reaches.

Of W = W_base + α·Δ the gradient ∂L/∂α is ⟨∂L/∂W, Δ⟩. For a linear layer that is ⟨x, (∂L/∂y)Δ⟩, for
which no ∂L/∂W is made; for an embedding only the rows that were looked up count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn

import torch
from torch.nn import functional as F  # noqa: N812 - as everybody calls it

from taia.runtime.alphas import One

#: Numbers of a weight that are made at once: all of a head's would be as much as a small model.
_BLOCK: Final = 1 << 22


class Between(torch.Tensor):
    """A weight that stands in a module in the place of the base's.

    Whatever a module does with it is done with W_base + α·Δ, made for the while. A linear layer
    (``F.linear``, and ``addmm`` of transformers' ``Conv1D``) and an embedding give their results
    without a gradient of the weight; a view (one expert of many, a transpose) is one of these
    again. Elsewhere, as for norms and biases, and for experts that are multiplied all at once, the
    gradient of the weight is made and used up layer by layer.

    Args:
        base: The base's values.
        tuned: The tuned model's, of the same shape and dtype.
        alpha: The α.
    """

    base: torch.Tensor
    tuned: torch.Tensor
    alpha: One

    @classmethod
    def of(cls, base: torch.Tensor, tuned: torch.Tensor, alpha: One) -> Between:
        """A tensor that has a shape, a dtype and a device, and no values of its own."""
        made: Between = torch.Tensor._make_wrapper_subclass(
            cls, base.shape, dtype=base.dtype, device=base.device
        )
        made.base, made.tuned, made.alpha = base, tuned, alpha
        return made

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the function gives
        """Do what is asked with W_base + α·Δ."""
        kwargs = dict(kwargs or {})
        if func in _ASKED:
            asked: Any = super().__torch_function__  # which torch leaves untyped
            return asked(func, types, args, kwargs)
        if func in _VIEWS and isinstance(args[0], Between):
            given, rest = args[0], args[1:]
            base, tuned = (func(one, *rest, **kwargs) for one in (given.base, given.tuned))
            return Between.of(base, tuned, given.alpha)
        if (taken := _TAKEN.get(func)) is not None:
            found = taken(*args, **kwargs)
            if found is not None:
                return found
        return func(*map(_made, args), **{key: _made(value) for key, value in kwargs.items()})

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Callable[..., Any], *_: object, **__: object
    ) -> NoReturn:
        """What passes by ``__torch_function__`` would find no values.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(f"{func} of a weight whose α has a gradient")

    def made(self) -> torch.Tensor:
        """W_base + α·Δ."""
        found: torch.Tensor = _Made.apply(self.alpha(), self.base, self.tuned)  # type: ignore[no-untyped-call]
        return found


def between(base: torch.Tensor, tuned: torch.Tensor, alpha: float | torch.Tensor) -> torch.Tensor:
    """W_base + α·Δ, calculated in float32 (float64 for float64) and rounded once.

    What :func:`taia.checkpoint.arithmetic.mix` makes on disk, where the model lives. The same sums
    in the same order: a mode in memory and its checkpoint have the same bits.
    """
    wide = _wide(base)
    anchor = base.to(wide)
    return torch.sub(tuned.to(wide), anchor).mul_(alpha).add_(anchor).to(tuned.dtype)


def _wide(tensor: torch.Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def _update(base: torch.Tensor, tuned: torch.Tensor) -> torch.Tensor:
    """Δ, in float32 or float64."""
    return tuned.to(_wide(base)) - base.to(_wide(base))


class _Made(torch.autograd.Function):
    """W_base + α·Δ; ∂L/∂α = ⟨∂L/∂W, Δ⟩."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - autograd's
        alpha: torch.Tensor,
        base: torch.Tensor,
        tuned: torch.Tensor,
    ) -> torch.Tensor:
        ctx.save_for_backward(alpha, base, tuned)
        return between(base, tuned, alpha)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:  # noqa: ANN401
        alpha, base, tuned = ctx.saved_tensors
        of_alpha = (_update(base, tuned) * grad).sum()
        return of_alpha.to(alpha.dtype), None, None


class _Product(torch.autograd.Function):
    """``x(W_base + α·Δ)``, with W ``[inputs, outputs]``; ∂L/∂α = ⟨x, (∂L/∂y)Δᵀ⟩."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - autograd's
        x: torch.Tensor,
        alpha: torch.Tensor,
        base: torch.Tensor,
        tuned: torch.Tensor,
    ) -> torch.Tensor:
        ctx.save_for_backward(x, alpha, base, tuned)
        y = x.new_empty((*x.shape[:-1], base.shape[1]))
        for some in _blocks(base):
            y[..., some] = F.linear(x, between(base[:, some], tuned[:, some], alpha).T)
        return y

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401 - autograd's
        grad: torch.Tensor,
    ) -> tuple[torch.Tensor | None, torch.Tensor, None, None]:
        x, alpha, base, tuned = ctx.saved_tensors
        moved = torch.zeros_like(x)
        for some in _blocks(base):
            update = _update(base[:, some], tuned[:, some]).to(grad.dtype)
            moved += F.linear(grad[..., some], update)
        wide = _wide(base)
        of_alpha = torch.dot(x.flatten().to(wide), moved.flatten().to(wide))
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = F.linear(grad, base) + moved * alpha.to(moved.dtype)
        return of_x, of_alpha.to(alpha.dtype), None, None


def _blocks(weight: torch.Tensor) -> Iterator[slice]:
    """Outputs of ``[inputs, outputs]``, so many at once as make a few megabytes."""
    size = max(1, _BLOCK // max(1, weight.shape[0]))
    for start in range(0, weight.shape[1], size):
        yield slice(start, start + size)


def _product(x: torch.Tensor, weight: Between, bias: Any) -> torch.Tensor:  # noqa: ANN401 - a bias
    alpha = weight.alpha()
    y: torch.Tensor = _Product.apply(x, alpha, weight.base, weight.tuned)  # type: ignore[no-untyped-call]
    return y if bias is None else y + _made(bias)


def _linear(
    x: torch.Tensor,
    weight: Any,  # noqa: ANN401 - a tensor or one of these
    bias: Any = None,  # noqa: ANN401 - as above
) -> torch.Tensor | None:
    if not isinstance(weight, Between) or weight.dim() != 2 or isinstance(x, Between):
        return None
    turned: Any = weight.T  # one of these again
    return _product(x, turned, bias)


def _addmm(bias: Any, x: Any, weight: Any, **options: Any) -> torch.Tensor | None:  # noqa: ANN401
    if not isinstance(weight, Between) or isinstance(x, Between) or options:
        return None
    return _product(x, weight, bias)


def _embedding(
    ids: torch.Tensor,
    weight: Any,  # noqa: ANN401 - a tensor or one of these
    *args: Any,  # noqa: ANN401 - torch's own
    **options: Any,  # noqa: ANN401 - torch's own
) -> torch.Tensor | None:
    if not isinstance(weight, Between):
        return None
    base, tuned = (F.embedding(ids, one, *args, **options) for one in (weight.base, weight.tuned))
    return Between.of(base, tuned, weight.alpha).made()


def _made(value: Any) -> Any:  # noqa: ANN401 - any argument
    if isinstance(value, (list, tuple)):
        return type(value)(map(_made, value))
    return value.made() if isinstance(value, Between) else value


#: What is done otherwise than with the whole weight, where it can be.
_TAKEN: Final[Mapping[Any, Callable[..., torch.Tensor | None]]] = {
    F.linear: _linear,
    torch.addmm: _addmm,
    F.embedding: _embedding,
}

#: What gives a part of a tensor, or the same numbers in another order.
_VIEWS: Final = frozenset(
    {
        torch.Tensor.__getitem__,
        torch.Tensor.T.__get__,  # type: ignore[attr-defined]
        torch.Tensor.mT.__get__,  # type: ignore[attr-defined]
        torch.Tensor.t,
        torch.Tensor.transpose,
        torch.Tensor.view,
        torch.Tensor.contiguous,
    }
)

#: What asks for no values.
_ASKED: Final = frozenset(
    {
        *(
            getattr(torch.Tensor, name).__get__
            for name in ("shape", "dtype", "device", "layout", "ndim", "requires_grad", "is_leaf")
        ),
        torch.Tensor.size,
        torch.Tensor.dim,
        torch.Tensor.numel,
        torch.Tensor.is_floating_point,
        torch.Tensor.element_size,
    }
)
