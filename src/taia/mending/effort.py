"""How long a method takes to make a candidate of an update: some take longer than all else.

Of a formula by entries, the entries; of one by singular values, those of whole matrices where it
looks at the base's weights or the update is a checkpoint, and of small cores where it is a LoRA's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from taia.mending.candidates import Candidate

if TYPE_CHECKING:
    from taia.runtime.update import Changed

#: Seconds an entry, on one core: it is read, its like are sorted, and it is written.
_ENTRY: Final = 6e-8
#: Seconds for each of m · n · min(m, n) of a matrix, whose singular values are found.
_SPECTRUM: Final = 4e-9


def seconds_to_make(candidate: Candidate, changed: Sequence[Changed], *, is_adapter: bool) -> float:
    """Seconds before a candidate can be measured; 0 where nothing is calculated.

    Args:
        candidate: It.
        changed: What the update changes.
        is_adapter: Whether the update is an adapter.
    """
    if candidate.method is None:
        return 0.0
    from taia.methods import Applied

    method = Applied.parse(candidate.method).method
    shapes = [part.label.tensor.shape or () for part in changed if method.concerns(part.label)]
    if method.entries is not None:
        return _ENTRY * sum(map(math.prod, shapes))
    if method.spectrum is None or (is_adapter and not method.reads_base):
        return 0.0
    # An expert's matrix by itself: the first axis of three counts them.
    return _SPECTRUM * sum(math.prod(shape) * min(shape[-2:]) for shape in shapes if len(shape) > 1)
