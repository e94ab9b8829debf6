"""Plots read back as XML: lines, marks, and the axis's own numbers."""

from __future__ import annotations

import xml.etree.ElementTree as ET


def parse(text: str) -> ET.Element:
    return ET.fromstring(text)


def lines(root: ET.Element, style: str) -> list[ET.Element]:
    return [x for x in root.iter("line") if x.get("class", "").split()[0] == style]


def span(line: ET.Element, axis: str = "x") -> tuple[float, float]:
    return float(line.attrib[f"{axis}1"]), float(line.attrib[f"{axis}2"])


def centre(mark: ET.Element) -> tuple[float, float]:
    """The middle of a mark's box; in the shapes used, x is its centre."""
    shape = mark[0]
    if shape.tag == "circle":
        return float(shape.attrib["cx"]), float(shape.attrib["cy"])
    if shape.tag == "rect":
        x, y, w, h = (float(shape.attrib[key]) for key in ("x", "y", "width", "height"))
        return x + w / 2, y + h / 2
    points = [tuple(map(float, p.split(","))) for p in shape.attrib["points"].split()]
    xs, ys = zip(*points, strict=True)
    return (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2


def marks(root: ET.Element) -> list[ET.Element]:
    return [g for g in root.iter("g") if g.get("class", "").startswith("mark ")]


def ticks(root: ET.Element, anchor: str) -> list[tuple[float, float]]:
    """Value → place of an axis's numbers."""
    found = [t for t in root.iter("text") if t.get("class") == "tick"]
    place = "x" if anchor == "middle" else "y"
    return [
        (float((t.text or "").replace("−", "-")), float(t.attrib[place]))
        for t in found
        if t.get("text-anchor") == anchor
    ]


def scale(root: ET.Element, anchor: str = "middle"):
    """The axis read off its own numbers: a line through the first and the last."""
    (v0, p0), *_, (v1, p1) = ticks(root, anchor)
    return lambda value: p0 + (value - v0) / (v1 - v0) * (p1 - p0)
