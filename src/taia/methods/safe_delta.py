"""Safe Delta: entries of the update as long as safety prompts allow, the rest compensated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from taia.methods.method import Method, Parameter

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from taia.methods.given import Array, Given


#: Inputs that share one budget, and the outputs that it was written for.
_BLOCK: Final = 2048
_OUTPUTS: Final = 4096
#: Added to H's diagonal, in parts of its mean; entries that are never taken, in parts of all.
_DAMPING: Final = 0.01
_NEVER: Final = 0.15
#: So many inputs are settled one by one.
_FEW: Final = 32


def entries(given: Given, *, s: float) -> Array:
    """What W_base becomes, less W_base, when some entries of Δ are taken and others give way."""
    import numpy as np

    turned = given.inputs_first
    base, update = (x.T if turned else x for x in (given.weight, given.update))
    factor = _factor(given.statistic("inputs", (base.shape[1],) * 2))
    now = np.array(base, np.float64, order="F")  # inputs are settled one after another
    wanted, errors = now + update, np.zeros_like(now)
    for start in range(0, now.shape[1], _BLOCK):
        stop = min(start + _BLOCK, now.shape[1])
        costs = (wanted[:, start:stop] - now[:, start:stop]) ** 2
        price = 1 / np.diag(factor)[start:stop] ** 2
        taken = _affordable(costs, price, s / 2 * len(now) / _OUTPUTS)
        wanted[:, start:stop][~taken] = np.nan
        _settle(now, wanted, errors, factor, start, stop)
        now[:, stop:] -= errors[:, start:stop] @ factor[start:stop, stop:]
    change: Array = (now - base).astype(update.dtype)
    return change.T if turned else change


def _affordable(costs: Array, price: Array, budget: float) -> npt.NDArray[np.bool_]:
    """Marks the cheapest entries [outputs, inputs] that a budget of mean prices allows."""
    import numpy as np

    prices = np.broadcast_to(price, costs.shape)
    order = np.argsort(prices, axis=None, kind="stable")
    order = order[: order.size - int(_NEVER * order.size)]
    spent = np.cumsum((costs * prices).reshape(-1)[order])
    taken = np.zeros(costs.size, np.bool_)
    taken[order[spent <= budget * price.mean()]] = True
    return taken.reshape(costs.shape)


def _settle(now: Array, wanted: Array, errors: Array, factor: Array, start: int, stop: int) -> None:
    """Settles some inputs' weights, each at what is wanted of it or as it is, and moves later ones.

    By halves, so that most of the work is products of matrices.
    """
    import numpy as np

    if stop - start > _FEW:
        middle = (start + stop) // 2
        _settle(now, wanted, errors, factor, start, middle)
        now[:, middle:stop] -= errors[:, start:middle] @ factor[start:middle, middle:stop]
        _settle(now, wanted, errors, factor, middle, stop)
        return
    for at in range(start, stop):
        settled = np.where(np.isnan(wanted[:, at]), now[:, at], wanted[:, at])
        errors[:, at] = (now[:, at] - settled) / factor[at, at]
        now[:, at] = settled
        now[:, at + 1 : stop] -= np.outer(errors[:, at], factor[at, at + 1 : stop])


def _factor(inputs: Array) -> Array:
    """The upper triangular L with LᵀL = (H + damping)⁻¹."""
    import numpy as np

    damped = inputs.astype(np.float64)
    diagonal = np.einsum("ii->i", damped)
    diagonal[diagonal == 0] = 1
    diagonal += _DAMPING * diagonal.mean()
    inverse = np.linalg.inv(damped)
    factor: Array = np.linalg.cholesky((inverse + inverse.T) / 2).T
    return factor


METHOD = Method(
    name="safe-delta",
    title="Safe Delta",
    source="Lu et al., ICML 2025, arXiv 2505.12038",
    formula="Δ by entries in ascending 1/L_mm² while Σ Δ²/L_mm² ≤ s/2 · mean(1/L_mm²) · "
    "outputs/4096 in each 2048 inputs, never the last 15 %; later entries make up for what is "
    "taken; "
    "LᵀL = (H + 1 % of its mean diagonal)⁻¹",
    basis="the formulas in the authors' code; input by input, where that moves four at a time",
    parameters=(Parameter("s", 0.1, 0, 1000, "how much change safety prompts may see"),),
    scope="layers",
    elsewhere=0.0,
    needs=("inputs",),
    reads_base=True,
    entries=entries,
)
