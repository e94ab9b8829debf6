"""Safe Delta: entries of the update as long as safety prompts allow, the rest compensated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from taia.methods.method import Method, Parameter

if TYPE_CHECKING:
    import numpy.typing as npt

    from taia.methods.given import Array, Given

#: Inputs that share one budget, and the outputs that it was written for.
_BLOCK: Final = 2048
_OUTPUTS: Final = 4096
#: Added to H's diagonal, in parts of its mean; entries that are never taken, in parts of all.
_DAMPING: Final = 0.01
_NEVER: Final = 0.15


def entries(given: Given, *, s: float) -> Array:
    """What W_base becomes, less W_base, when some entries of Δ are taken and others give way."""
    import numpy as np

    turned = given.inputs_first
    base, update = (x.T if turned else x for x in (given.weight, given.update))
    factor = _factor(given.statistic("inputs", (base.shape[1],) * 2))
    now = base.astype(np.float64)
    wanted = now + update
    for start in range(0, now.shape[1], _BLOCK):
        stop = min(start + _BLOCK, now.shape[1])
        _block(now, wanted, factor, start, stop, s * len(base) / _OUTPUTS / 2)
    change = (now - base).astype(update.dtype)
    return change.T if turned else change


def _block(
    now: npt.NDArray[Any],
    wanted: npt.NDArray[Any],
    factor: npt.NDArray[Any],
    start: int,
    stop: int,
    budget: float,
) -> None:
    """Settles some inputs' weights, and moves those of later inputs so that outputs stay."""
    import numpy as np

    price = np.broadcast_to(1 / np.diag(factor)[start:stop] ** 2, (len(now), stop - start))
    order = np.argsort(price, axis=None, kind="stable")
    order = order[: order.size - int(_NEVER * order.size)]
    costs = (wanted[:, start:stop] - now[:, start:stop]) ** 2 * price
    affordable = np.cumsum(costs.reshape(-1)[order]) <= budget * price.mean()
    taken = np.zeros(price.size, np.bool_)
    taken[order[affordable]] = True
    taken = taken.reshape(price.shape)
    for at in range(start, stop):
        settled = np.where(taken[:, at - start], wanted[:, at], now[:, at])
        error = (now[:, at] - settled) / factor[at, at]
        now[:, at] = settled
        now[:, at + 1 :] -= np.outer(error, factor[at, at + 1 :])


def _factor(inputs: Array) -> npt.NDArray[Any]:
    """The upper triangular L with LᵀL = (H + damping)⁻¹."""
    import numpy as np

    damped = inputs.astype(np.float64)
    diagonal = np.einsum("ii->i", damped)
    diagonal[diagonal == 0] = 1
    diagonal += _DAMPING * diagonal.mean()
    inverse = np.linalg.inv(damped)
    return np.linalg.cholesky((inverse + inverse.T) / 2).T


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
