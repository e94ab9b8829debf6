"""taia: fine-tune everything once; at inference, choose which updates to keep.

W_infer = W_base + α · (W_tuned − W_base), where a selection gives every tensor its α::

    import taia

    done = taia.compose("base/", "tuned/", "output/", keep="attention + 0.5*mlp")
    print(done.alphas)

Nothing is imported until it is asked for, so ``import taia`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from taia.anatomy import Anatomy, Label, TensorInfo
    from taia.checkpoint.compose import compose
    from taia.checkpoint.composition import Composition
    from taia.checkpoint.index import Checkpoint
    from taia.errors import (
        AdapterError,
        AnatomyError,
        CheckpointError,
        DataError,
        DestinationError,
        DownloadError,
        InputError,
        MethodError,
        MismatchError,
        OutputError,
        RunError,
        SelectionError,
        StoppedError,
        TaiaError,
    )
    from taia.evaluation.run import evaluate
    from taia.mending.run import mend
    from taia.runtime.switchable import SwitchableModel
    from taia.selection import MODES, Selection

    __version__: str

__all__ = [
    "MODES",
    "AdapterError",
    "Anatomy",
    "AnatomyError",
    "Checkpoint",
    "CheckpointError",
    "Composition",
    "DataError",
    "DestinationError",
    "DownloadError",
    "InputError",
    "Label",
    "MethodError",
    "MismatchError",
    "OutputError",
    "RunError",
    "Selection",
    "SelectionError",
    "StoppedError",
    "SwitchableModel",
    "TaiaError",
    "TensorInfo",
    "__version__",
    "compose",
    "evaluate",
    "mend",
]

#: Public name → the module it comes from; those not named here come from taia.errors.
_HOMES: Final = {
    "MODES": "taia.selection",
    "Anatomy": "taia.anatomy",
    "Checkpoint": "taia.checkpoint.index",
    "Composition": "taia.checkpoint.composition",
    "Label": "taia.anatomy",
    "Selection": "taia.selection",
    "SwitchableModel": "taia.runtime.switchable",
    "TensorInfo": "taia.anatomy",
    "compose": "taia.checkpoint.compose",
    "evaluate": "taia.evaluation.run",
    "mend": "taia.mending.run",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the public name stands for
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object
    if name == "__version__":
        from importlib.metadata import version

        value = version(__name__)
    else:
        try:
            value = getattr(import_module(_HOMES.get(name, "taia.errors")), name)
        except ImportError as error:
            from taia.packages import not_installed

            raise not_installed(error, "torch") from error
    globals()[name] = value  # asked for once, found at once from then on
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
