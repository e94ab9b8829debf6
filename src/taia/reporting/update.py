"""Where an update lives: by component as a table, by layer and projection as shades."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from rich import box
from rich.style import Style
from rich.table import Table

from taia.analysis.norms import Norm, Norms
from taia.reporting import svg
from taia.reporting.screen import Text
from taia.reporting.words import ratio, size

#: Projections before others, in the order data flows through them.
_ORDER: Final = (
    *("q_proj", "k_proj", "v_proj", "qkv_proj", "o_proj"),
    *("gate_proj", "up_proj", "gate_up_proj", "down_proj"),
)
_COMPONENTS: Final = ("attention", "mlp", "shared_experts", "experts", "router", "norm")
#: Of the shade of the largest number, in the terminal: readable under black and white letters.
_DEEP: Final = (196, 78, 0)


@dataclass(frozen=True, slots=True)
class Shade:
    """What is shown of each layer and projection.

    Attributes:
        title: Its name.
        unit: What a shade is a number of.
        value: The number, 0 or more; ``None`` where there is none.
    """

    title: str
    unit: str
    value: Callable[[Norm, Norms], float | None]


def _share(norm: Norm, norms: Norms) -> float:
    total = sum(row.update**2 for row in norms.rows)
    return 100 * norm.update**2 / total if total else 0.0


#: What can be shown.
SHADES: Final[Mapping[str, Shade]] = MappingProxyType(
    {
        "size": Shade("Size", "‖ΔW‖ in % of ‖W‖", lambda norm, _: 100 * norm.ratio),
        "share": Shade("Share", "% of all ‖ΔW‖²", _share),
        "rank": Shade("Effective rank", "effective rank of ΔW", lambda norm, _: norm.rank),
    }
)


def drawn(norms: Norms, shade: str = "size") -> str | None:
    """A number of each layer and projection as an SVG of shades; none without layers.

    Args:
        norms: Of the update.
        shade: One of :data:`SHADES`.
    """
    found = _cells(norms, SHADES[shade])
    if not found:
        return None
    layers, columns = _axes(norms)
    cells = [
        svg.Cell(layers.index(layer), columns.index(column), value, told(norm))
        for (layer, column), (norm, value) in found.items()
    ]
    words = f"{SHADES[shade].title} of the update by layer and projection. " + "; ".join(
        f"{row.component} {ratio(row)}%" for row in norms.by_component
    )
    return svg.heat(cells, list(map(str, layers)), _names(columns), SHADES[shade].unit, words)


def shaded(norms: Norms, shade: str = "size") -> Table | None:
    """The same for a terminal: the numbers, on shades; none without an update in layers.

    Projections that are not updated in any layer are left out.

    Args:
        norms: Of the update.
        shade: One of :data:`SHADES`.
    """
    found = _cells(norms, SHADES[shade])
    if not found:
        return None
    layers, columns = _axes(norms)
    columns = [
        one for one in columns if any(cell[0].update for at, cell in found.items() if at[1] == one)
    ]
    most = max((value for _, value in found.values() if math.isfinite(value)), default=0.0)
    table = Table(title=Text(SHADES[shade].unit, "bold"), box=None, show_edge=False, pad_edge=False)
    table.add_column("layer", justify="right", no_wrap=True)
    for name in _names(columns):
        table.add_column(name, justify="right", overflow="fold")
    for layer in layers:
        cells = [found.get((layer, column)) for column in columns]
        shown = [Text() if cell is None else _square(cell[1], most) for cell in cells]
        table.add_row(str(layer), *shown)
    return table


def component_table(norms: Norms) -> Table:
    """For each component, how large its update is, its share, and its effective rank."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("component", style="bold", no_wrap=True)
    for heading in HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    for norm in norms.by_component:
        table.add_row(norm.component, *numbers(norm, norms))
    return table


#: Of what :func:`numbers` gives.
HEADINGS: Final = ("‖ΔW‖", "‖W‖", "ratio, %", "share, %", "rank")


def numbers(norm: Norm, norms: Norms) -> tuple[str, ...]:
    """A row of a table: ‖ΔW‖, ‖W‖, their ratio, the share of ‖ΔW‖², the effective rank."""
    return (
        size(norm.update),
        size(norm.weight),
        ratio(norm),
        f"{_share(norm, norms):.1f}",
        "" if norm.rank is None else f"{norm.rank:.1f}",
    )


def told(norm: Norm) -> str:
    """A norm in words: ``layer 3, mlp up_proj: ‖ΔW‖ 0.12, ‖W‖ 9.8, 1.2%, rank 5.1``."""
    where = [] if norm.layer is None else [f"layer {norm.layer}"]
    where.append(f"{norm.component} {norm.projection}".strip())
    rank = "" if norm.rank is None else f", rank {norm.rank:.1f}"
    sizes = f"‖ΔW‖ {size(norm.update)}, ‖W‖ {size(norm.weight)}, {ratio(norm)}%"
    return f"{', '.join(where)}: {sizes}{rank}"


_Column = tuple[str, str]


def _inside(norms: Norms) -> Iterator[tuple[int, Norm]]:
    return ((row.layer, row) for row in norms.rows if row.layer is not None)


def _cells(norms: Norms, shade: Shade) -> dict[tuple[int, _Column], tuple[Norm, float]]:
    found = {}
    for layer, row in _inside(norms):
        value = shade.value(row, norms)
        if value is not None:
            found[layer, (row.component, row.projection)] = row, value
    return found


def _axes(norms: Norms) -> tuple[list[int], list[_Column]]:
    """The layers downwards and what they are made of across."""
    layers = sorted({layer for layer, _ in _inside(norms)})
    columns = sorted({(row.component, row.projection) for _, row in _inside(norms)}, key=_place)
    return layers, columns


def _names(columns: Iterable[_Column]) -> list[str]:
    columns = [*columns]
    names = [projection for _, projection in columns]
    return [
        projection if names.count(projection) == 1 else f"{projection} {component}"
        for component, projection in columns
    ]


def _square(value: float, most: float) -> Text:
    strength = min(1.0, value / most) if most else 0.0
    if not value:
        return Text("·")
    shown = f"{value:,.0f}" if value >= 100 else f"{value:.2g}"
    shown = "∞" if value == math.inf else shown
    back = [round(255 + (deep - 255) * strength) for deep in _DEEP]
    return Text(f" {shown} ", Style(color="black", bgcolor=f"rgb({back[0]},{back[1]},{back[2]})"))


def _place(column: _Column) -> tuple[int, int, str]:
    component, projection = column
    return (
        _COMPONENTS.index(component) if component in _COMPONENTS else len(_COMPONENTS),
        _ORDER.index(projection) if projection in _ORDER else len(_ORDER),
        projection,
    )
