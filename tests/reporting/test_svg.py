"""Marks and intervals stand where the numbers say."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from comparisons import comparison, first, realistic
from drawings import centre, lines, marks, parse, scale, span
from taia.evaluation.scores.statistics import Contrast, Estimate
from taia.reporting import plots, svg
from taia.reporting.words import change, interval, pairs, percent

HOSTILE = "<script>\"&'</script>"


@pytest.fixture(scope="module")
def made():
    return realistic(**{f"all - mlp[{n}:]": f"all - mlp[{n}:]" for n in (4, 8, 20)})


def test_differences_stand_where_the_axis_says(made):
    shown = pairs(made.modes)
    for group in ("knowledge", "skill"):
        root = parse(plots.against(made, shown, group))
        x = scale(root)
        rows = zip(shown, lines(root, "bar"), marks(root), strict=True)
        for (one, other), line, mark in rows:
            difference = made.difference(one, other, group)
            assert span(line) == pytest.approx(
                (x(100 * difference.low), x(100 * difference.high)), abs=0.2
            )
            assert centre(mark)[0] == pytest.approx(x(100 * difference.value), abs=0.2)
        assert span(lines(root, "zero")[0]) == pytest.approx((x(0), x(0)), abs=0.2)


def test_accuracies_stand_where_the_axis_says(made):
    root = parse(plots.by_kind(made))
    x = scale(root)
    groups = [*made.kinds, "skill"]
    wanted = [made.accuracy(mode, group) for group in groups for mode in made.modes]
    for estimate, line, mark in zip(wanted, lines(root, "bar"), marks(root), strict=True):
        assert span(line) == pytest.approx((x(100 * estimate.low), x(100 * estimate.high)), abs=0.2)
        assert centre(mark)[0] == pytest.approx(x(100 * estimate.value), abs=0.2)
    assert [span(line)[0] for line in lines(root, "chance")] == pytest.approx([x(25)] * 6, abs=0.2)


def test_the_trade_off_stands_where_the_axes_say(made):
    root = parse(plots.trade_off(made))
    x, up = scale(root), scale(root, "end")

    def y(value):
        return up(value) - 4  # a number's baseline is below its line

    bars = lines(root, "bar")
    for index, mode in enumerate(made.modes):
        skill, knowledge = made.accuracy(mode, "skill"), made.accuracy(mode, "knowledge")
        across, upright = bars[2 * index : 2 * index + 2]
        assert span(across) == pytest.approx((x(100 * skill.low), x(100 * skill.high)), abs=0.3)
        assert span(upright, "y") == pytest.approx(
            (y(100 * knowledge.low), y(100 * knowledge.high)), abs=0.3
        )
        assert centre(marks(root)[index])[0] == pytest.approx(x(100 * skill.value), abs=0.3)
    assert y(60) < y(50)


def test_more_right_is_further_right():
    modes = {f"m{n}": {"law": first(n, 20), "trained": first(20 - n, 20)} for n in range(21)}
    root = parse(plots.by_kind(comparison(modes)))
    places = [centre(mark)[0] for mark in marks(root)]
    assert all(a < b for a, b in pairwise(places[:21]))
    assert all(a > b for a, b in pairwise(places[21:]))


@pytest.mark.parametrize("extremes", [("0" * 40, "1" * 40), ("0", "1"), ("1", "1")])
def test_nothing_leaves_the_view_box(extremes):
    made = comparison(
        {m: {"law": e, "trained": e} for m, e in zip(("base", "tuned"), extremes, strict=True)}
    )
    drawn = [
        plots.trade_off(made),
        plots.by_kind(made),
        plots.against(made, pairs(made.modes), "knowledge"),
    ]
    for root in map(parse, drawn):
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        for element in root.iter():
            for key, limit in {
                "x": width,
                "x1": width,
                "x2": width,
                "y": height,
                "y1": height,
                "y2": height,
            }.items():
                assert 0 <= float(element.get(key, 0)) <= limit


def test_every_mode_has_a_mark_of_its_own(made):
    drawn = [ET.tostring(parse(svg.legend(index))) for index in range(2 * svg.SHAPES)]
    assert len(set(drawn)) == len(drawn)
    for text, count in ((plots.trade_off(made), 7), (plots.by_kind(made), 42)):
        assert len(marks(parse(text))) == count
        assert len({mark.attrib["class"] for mark in marks(parse(text))}) == 7


def test_a_line_has_its_marks_colour(made):
    root = parse(plots.by_kind(made))
    for line, mark in zip(lines(root, "bar"), marks(root), strict=True):
        assert line.attrib["class"].split()[1][1:] == mark.attrib["class"].split()[-1][1:]


def test_labels_give_the_numbers_to_who_cannot_see(made):
    shown = pairs(made.modes)
    for text, numbers in (
        (
            plots.against(made, shown, "skill"),
            [change(made.difference(*p, "skill")) for p in shown],
        ),
        (
            plots.by_kind(made),
            [percent(made.accuracy(m, k)) for m in made.modes for k in made.kinds],
        ),
        (
            plots.trade_off(made),
            [percent(made.accuracy(m, g)) for m in made.modes for g in ("skill", "knowledge")],
        ),
        (svg.losses([4.21, 1.5, 0.48]), ["4.21", "0.48", "3 steps"]),
    ):
        root = parse(text)
        assert root.attrib["role"] == "img"
        assert all(number in root.attrib["aria-label"] for number in numbers)


def test_hostile_names_stay_text():
    made = comparison({m: {HOSTILE: "10", "trained": "01"} for m in ("base", "tuned", HOSTILE)})
    for text in (
        plots.trade_off(made),
        plots.by_kind(made),
        plots.against(made, pairs(made.modes), "knowledge"),
    ):
        root = parse(text)
        assert not list(root.iter("script"))
        assert HOSTILE in root.attrib["aria-label"]


def test_long_names_are_cut_and_told_in_full():
    long = "attention[0:16] + 0.5*mlp"
    made = comparison({m: {long: "10", "trained": "01"} for m in ("base", "tuned", long)})
    for text in (plots.by_kind(made), plots.against(made, pairs(made.modes), "knowledge")):
        labels = [t for t in parse(text).iter("text") if t.get("class") == "label"]
        assert max(len(label.text or "") for label in labels) <= 18
        cut = [label for label in labels if "…" in (label.text or "")]
        assert cut
        assert all(long in (label.findtext("title") or "") for label in cut)
    assert (cut[0].text or "").endswith(" − base")


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


def test_without_an_interval_there_is_a_mark_and_no_bar():
    known, bare = Estimate(0.4, 0.3, 0.6), Estimate(0.5, None, None)
    gaps = [svg.Gap(0, "a", "a", Contrast(0.1, -0.1, 0.3, 0.2))]
    with_bar = parse(svg.forest(gaps, "Words."))
    without = parse(
        svg.forest([gaps[0]._replace(difference=Contrast(0.1, None, None, None))], "Words.")
    )
    assert len(lines(with_bar, "bar")) == len(lines(without, "bar")) + 1
    assert len(marks(with_bar)) == len(marks(without)) == 1
    for drawn in (
        svg.rows([svg.Block("t", [(0, "a", bare), (1, "b", known)])], "Words."),
        svg.cross([svg.Point(0, bare, known), svg.Point(1, known, bare)], "x", "y", "Words."),
    ):
        assert "None" not in drawn
        assert "nan" not in drawn
        assert len(marks(parse(drawn))) == 2
    assert change(Contrast(0.1, None, None, None)) == "+10.0"
    assert interval(bare) == "–"
