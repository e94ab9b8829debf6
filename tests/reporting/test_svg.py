"""Marks and intervals stand where the numbers say."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawings import centre, lines, marks, parse, scale, span
from taia.evaluation.scores.statistics import Estimate, accuracy
from taia.reporting import svg
from taia.reporting.words import change, percent

HOSTILE = "<script>\"&'</script>"
LONG = "attention[0:16] + 0.5*mlp"
GAPS = [
    svg.Gap(0, "law, taia − base", "law", Estimate(0.1, 0.02, 0.18)),
    svg.Gap(1, "art, taia − base", "art", Estimate(-0.04, -0.1, 0.02), hollow=True),
    svg.Gap(2, "sea, taia − base", "sea", Estimate(0.0, 0.0, 0.0)),
]


def share(right: int, total: int) -> Estimate:
    return accuracy([n < right for n in range(total)])


@pytest.fixture(scope="module")
def blocks():
    """Two tasks, seven modes each."""
    return [
        svg.Block(task, [(n, f"m{n}", share(right + n, 40)) for n in range(7)], 0.25)
        for task, right in (("law", 4), ("art", 30))
    ]


@pytest.fixture(scope="module")
def points():
    return [svg.Point(n, share(4 * n, 40), share(30 - n, 40)) for n in range(7)]


def test_differences_stand_where_the_axis_says():
    root = parse(svg.forest(GAPS, "Points.", 0.2))
    x = scale(root)
    for gap, line, mark in zip(GAPS, lines(root, "bar"), marks(root), strict=True):
        found = gap.difference
        assert span(line) == pytest.approx((x(100 * found.low), x(100 * found.high)), abs=0.2)
        assert centre(mark)[0] == pytest.approx(x(100 * found.value), abs=0.2)
        assert ("open" in mark.attrib["class"]) == gap.hollow
        assert change(found) in root.attrib["aria-label"]
    assert span(lines(root, "zero")[0]) == pytest.approx((x(0), x(0)), abs=0.2)


def test_scores_stand_where_the_axis_says(blocks):
    root = parse(svg.rows(blocks, "Scores."))
    x = scale(root)
    wanted = [estimate for block in blocks for _, _, estimate in block.lines]
    for estimate, line, mark in zip(wanted, lines(root, "bar"), marks(root), strict=True):
        assert span(line) == pytest.approx((x(100 * estimate.low), x(100 * estimate.high)), abs=0.2)
        assert centre(mark)[0] == pytest.approx(x(100 * estimate.value), abs=0.2)
        assert percent(estimate) in root.attrib["aria-label"]
    assert [span(line)[0] for line in lines(root, "chance")] == pytest.approx([x(25)] * 2, abs=0.2)


def test_two_measures_stand_where_the_axes_say(points):
    root = parse(svg.cross(points, "across", "upwards", "words"))
    x, up = scale(root), scale(root, "end")

    def y(value):
        return up(value) - 4  # a number's baseline is below its line

    bars = lines(root, "bar")
    for index, point in enumerate(points):
        flat, upright = bars[2 * index : 2 * index + 2]
        assert span(flat) == pytest.approx((x(100 * point.x.low), x(100 * point.x.high)), abs=0.3)
        assert span(upright, "y") == pytest.approx(
            (y(100 * point.y.low), y(100 * point.y.high)), abs=0.3
        )
        assert centre(marks(root)[index])[0] == pytest.approx(x(100 * point.x.value), abs=0.3)
    assert y(60) < y(50)


def test_what_has_no_interval_is_a_mark_alone():
    bare = Estimate(0.5, None, None)
    row = parse(svg.rows([svg.Block("law", [(0, "base", bare), (1, "tuned", share(3, 9))])], ""))
    gap = parse(svg.forest([svg.Gap(0, "law", "law", bare)], "", 0.6))
    point = parse(svg.cross([svg.Point(0, bare, bare)], "x", "y", ""))
    assert [len(lines(root, "bar")) for root in (row, gap, point)] == [1, 0, 0]
    assert [len(marks(root)) for root in (row, gap, point)] == [2, 1, 1]
    hollow = ["open" in mark.attrib["class"] for mark in marks(row)]
    assert hollow == [True, False]
    assert "open" in marks(point)[0].attrib["class"]
    assert "50.0 (no interval)" in "".join(row.itertext())
    assert "+50.0 (no interval)" in "".join(gap.itertext())


@given(
    st.lists(
        st.tuples(*[st.floats(-1, 1)] * 3).map(sorted).map(lambda e: Estimate(e[1], e[0], e[2])),
        min_size=1,
        max_size=6,
    ),
    st.floats(0, 1),
)
def test_what_is_beyond_the_axis_ends_in_an_arrow_and_nothing_leaves_the_picture(found, reach):
    reach = max(0.05, reach)
    gaps = [svg.Gap(0, f"{n}", f"{n}", estimate) for n, estimate in enumerate(found)]
    root = parse(svg.forest(gaps, "", reach))
    inside(root)
    right = sum(estimate.high > reach for estimate in found)
    left = sum(estimate.low < -reach for estimate in found)
    arrows = [e for e in root.iter("polygon") if e.get("class", "").startswith("on ")]
    assert len(arrows) == right + left
    assert len(marks(root)) == sum(abs(estimate.value) <= reach for estimate in found)
    axis = [abs(float((t.text or "").replace("−", "-"))) for t in root.iter("text")
            if t.get("class") == "tick"]  # fmt: skip
    assert max(axis) <= 100 * reach + 1e-9


def inside(root: ET.Element) -> None:
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for element in root.iter():
        for key in ("x", "x1", "x2"):
            assert 0 <= float(element.get(key, 0)) <= width
        for key in ("y", "y1", "y2"):
            assert 0 <= float(element.get(key, 0)) <= height


@pytest.mark.parametrize("extremes", [(0, 40), (0, 1), (1, 1)])
def test_nothing_leaves_the_view_box(extremes):
    right, total = extremes
    found = [share(0, total), share(right, total), share(total, total)]
    drawn = [
        svg.cross([svg.Point(n, e, e) for n, e in enumerate(found)], "x", "y", ""),
        svg.rows([svg.Block("law", [(n, "m", e) for n, e in enumerate(found)])], ""),
        svg.forest([svg.Gap(0, "law", "law", Estimate(1.0, -1.0, 1.0))], "", 1.0),
    ]
    for root in map(parse, drawn):
        inside(root)


def test_more_right_is_further_right():
    found = [(n, f"m{n}", share(n, 20)) for n in range(21)]
    blocks = [svg.Block("law", found), svg.Block("art", found[::-1])]
    places = [centre(mark)[0] for mark in marks(parse(svg.rows(blocks, "")))]
    assert all(a < b for a, b in pairwise(places[:21]))
    assert all(a > b for a, b in pairwise(places[21:]))


def test_every_mode_has_a_mark_of_its_own(blocks, points):
    drawn = [ET.tostring(parse(svg.legend(index))) for index in range(2 * svg.SHAPES)]
    assert len(set(drawn)) == len(drawn)
    for text, count in ((svg.cross(points, "x", "y", ""), 7), (svg.rows(blocks, ""), 14)):
        assert len(marks(parse(text))) == count
        assert len({mark.attrib["class"] for mark in marks(parse(text))}) == 7


def test_a_line_has_its_marks_colour(blocks):
    root = parse(svg.rows(blocks, ""))
    for line, mark in zip(lines(root, "bar"), marks(root), strict=True):
        assert line.attrib["class"].split()[1][1:] == mark.attrib["class"].split()[-1][1:]


def test_labels_give_the_numbers_to_who_cannot_see(points):
    words = "; ".join(f"{percent(point.x)} and {percent(point.y)}" for point in points)
    for text, numbers in (
        (svg.cross(points, "x", "y", words), [percent(p.x) for p in points]),
        (svg.losses([4.21, 1.5, 0.48]), ["4.21", "0.48", "3 steps"]),
    ):
        root = parse(text)
        assert root.attrib["role"] == "img"
        assert all(number in root.attrib["aria-label"] for number in numbers)


def test_hostile_names_stay_text(points):
    for text in (
        svg.cross(points, HOSTILE, HOSTILE, HOSTILE),
        svg.rows([svg.Block(HOSTILE, [(0, HOSTILE, share(1, 2))])], HOSTILE),
        svg.forest([svg.Gap(0, HOSTILE, HOSTILE, Estimate(0, 0, 0))], HOSTILE, 0.1),
    ):
        root = parse(text)
        assert not list(root.iter("script"))
        assert HOSTILE in root.attrib["aria-label"]


def test_long_names_are_cut_and_told_in_full():
    block = svg.Block(LONG, [(0, "base", share(1, 2))])
    gap = svg.Gap(0, LONG, f"{LONG[:12]}…", Estimate(0, 0, 0))
    for text in (svg.rows([block], ""), svg.forest([gap], "", 0.1)):
        (label,) = [t for t in parse(text).iter("text") if t.get("class") == "label"]
        assert "…" in (label.text or "")
        assert len(label.text or "") <= 18
        assert label.findtext("title") == LONG


def test_losses_fall_when_they_fall():
    values = [4.0, 2.0, 1.0, 0.5]
    curve = next(parse(svg.losses(values)).iter("polyline"))
    points = [tuple(map(float, p.split(","))) for p in curve.attrib["points"].split()]
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(points))
    gaps = [b[1] - a[1] for a, b in pairwise(points)]
    assert gaps == pytest.approx([2 * gaps[1], gaps[1], gaps[1] / 2], abs=0.3)  # printed to 0.1


@pytest.mark.parametrize("values", [[0.0], [2.0], [1e6, 1.0], [0.003, 0.001]])
def test_odd_losses_are_drawn(values):
    assert "nan" not in svg.losses(values)
    texts = [t.text or "" for t in parse(svg.losses(values)).iter("text")]
    levels = [float(t) for t in texts if t[0].isdigit()]
    assert 3 <= len(levels) <= 7
    assert levels[0] == 0
    assert max(values) - (levels[1] - levels[0]) < levels[-1]
