"""Where an update lives: its shades, in a drawing and in a terminal, are as deep as the numbers."""

from __future__ import annotations

import io
import math
import re

import pytest
from rich.console import Console

from drawings import parse
from taia.analysis.norms import Norm, Norms
from taia.reporting.html import render_update
from taia.reporting.update import component_table, drawn, numbers, shaded, told

NORMS = Norms(
    "b",
    "t",
    (
        Norm(2, "mlp", "up_proj", 1.0, 10.0, 1),
        Norm(10, "mlp", "up_proj", 4.0, 10.0, 1),
        Norm(2, "attention", "q_proj", 0.0, 10.0, 1),
        Norm(10, "attention", "o_proj", 1.0, 0.0, 1),
        Norm(None, "head", "lm_head", 9.0, 1.0, 1),
    ),
)


def test_shades_are_as_strong_as_the_update_is_large():
    root = parse(drawn(NORMS))
    cells = {
        g.findtext("title"): g for g in root.iter("g") if (g.findtext("title") or "").count("layer")
    }
    shades = {title: float(g.find("rect").attrib["fill-opacity"]) for title, g in cells.items()}
    assert shades == {
        "layer 2, mlp up_proj: ‖ΔW‖ 1, ‖W‖ 10, 10%": 0.25,
        "layer 10, mlp up_proj: ‖ΔW‖ 4, ‖W‖ 10, 40%": 1.0,
        "layer 2, attention q_proj: ‖ΔW‖ 0, ‖W‖ 10, 0%": 0.0,
        "layer 10, attention o_proj: ‖ΔW‖ 1, ‖W‖ 0, ∞%": 1.0,
    }
    dotted = [title for title, g in cells.items() if g.find("circle") is not None]
    assert dotted == ["layer 2, attention q_proj: ‖ΔW‖ 0, ‖W‖ 10, 0%"]
    at = {title: g.find("rect") for title, g in cells.items()}
    low, high = (
        at[next(title for title in at if title.startswith(f"layer {n}, mlp"))] for n in (2, 10)
    )
    assert low.attrib["x"] == high.attrib["x"]
    assert float(low.attrib["y"]) < float(high.attrib["y"])
    names = [t.text for t in root.iter("text") if t.get("class") == "tick"]
    assert names[:5] == ["q_proj", "o_proj", "up_proj", "2", "10"]
    assert names[5:] == ["0", "8", "16", "24", "32", "40"]


def test_without_layers_there_is_no_map():
    assert drawn(Norms("b", "t", NORMS.rows[4:])) is None


def in_terminal(table: object, width: int = 100, color: bool = False) -> str:
    screen = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=color,
        color_system="truecolor" if color else None,
    )
    screen.print(table)
    return screen.file.getvalue()


def test_the_terminal_has_the_same_numbers_layer_by_layer():
    lines = [line.split() for line in in_terminal(shaded(NORMS)).splitlines() if line.strip()]
    assert lines[1:] == [
        ["layer", "o_proj", "up_proj"],
        ["2", "10"],
        ["10", "∞", "40"],
    ]
    assert shaded(Norms("b", "t", NORMS.rows[4:])) is None


def test_its_shades_deepen_with_the_numbers():
    found = re.findall(
        r"48;2;(\d+);(\d+);(\d+)m\s*([\w∞]+)", in_terminal(shaded(NORMS), color=True)
    )
    depth = {number: sum(map(int, rgb)) for *rgb, number in found}
    assert depth["40"] == depth["∞"] < depth["10"] < 3 * 255


RANKED = Norms(
    "b",
    "t",
    (
        Norm(0, "mlp", "up_proj", 3.0, 10.0, 1, 2.0),
        Norm(1, "mlp", "up_proj", 4.0, 10.0, 1, 6.0),
        Norm(1, "attention", "q_proj", 0.0, 10.0, 1),
    ),
)


def test_shares_add_up_and_ranks_are_where_they_were_measured():
    assert numbers(RANKED.rows[0], RANKED) == ("3", "10", "30", "36.0", "2.0")
    assert numbers(RANKED.rows[2], RANKED) == ("0", "10", "0", "0.0", "")
    assert told(RANKED.rows[1]) == "layer 1, mlp up_proj: ‖ΔW‖ 4, ‖W‖ 10, 40%, rank 6.0"
    rows = [line.split() for line in in_terminal(component_table(RANKED)).splitlines()]
    assert ["mlp", "5", "14.1", "35", "100.0", "4.0"] in rows
    share = drawn(RANKED, "share")
    assert share is not None
    strength = {
        g.findtext("title").split(":")[0]: float(g.find("rect").attrib["fill-opacity"])
        for g in parse(share).iter("g")
        if g.findtext("title")
    }
    assert strength["layer 0, mlp up_proj"] == pytest.approx(0.36 / 0.64, abs=1e-3)
    ranks = drawn(RANKED, "rank")
    assert ranks is not None
    assert "q_proj:" not in ranks
    assert not any(math.isnan(value) for value in strength.values())


def test_the_page_shows_all_three_and_says_what_it_is_of():
    page = render_update(RANKED, "taia inspect b t --output page.html")
    for title in ("Size, by layer", "Share, by layer", "Effective rank, by layer"):
        assert title in page
    assert page.count("<svg") == 3
    assert "taia inspect b t --output page.html" in page
    assert "<title>Where the update lives: b → t</title>" in page
