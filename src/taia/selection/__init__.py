"""What to keep of an update: W_infer = W_base + α · (W_tuned − W_base), tensor by tensor.

``Selection.parse("attention + 0.5*mlp[8:]")`` reads one; ``.alphas(anatomy)`` applies it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from taia.anatomy.labels import Label
from taia.selection.alpha import Alpha, Pieces
from taia.selection.modes import MODES
from taia.selection.parser import parse
from taia.selection.tree import Node
from taia.selection.weigh import check_names, weigh

__all__ = ["MODES", "Alpha", "Pieces", "Selection"]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which updates to keep, and how much of each.

    Two selections are equal when they are written alike but for spaces and needless brackets.
    """

    tree: Node
    text: str = field(compare=False)

    @classmethod
    def parse(cls, text: str) -> Selection:
        """Reads a selection: a mode (``taia``), or components and projections combined.

        Raises:
            SelectionError: If it cannot be read; the message points at the character.
        """
        return cls(parse(text), text)

    def alphas(self, anatomy: Mapping[str, Label]) -> dict[str, Alpha]:
        """α of every tensor, in the anatomy's order.

        Raises:
            SelectionError: If a name, pattern or slice in the selection matches nothing.
        """
        return weigh(self.tree, self.text, anatomy)

    def check_names(self, anatomy: Mapping[str, Label]) -> None:
        """Refuses names that mean nothing, without weighing anything.

        Raises:
            SelectionError: If a name is no mode, no component, and nothing in the anatomy.
        """
        check_names(self.tree, self.text, anatomy)

    def __str__(self) -> str:
        """The selection as text that reads back as the same selection."""
        return str(self.tree)
