"""A run's marks and shades stand where the numbers say."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from drawings import centre, lines, marks, parse, scale, span
from eval_runs import RATES, facts, result, results
from taia.evaluation.scores.summary import Summary
from taia.reporting import plots, svg
from taia.reporting.words import change, pairs


@pytest.fixture(scope="module")
def said():
    made = results()
    return Summary.of(made, facts(made))


def test_differences_stand_where_the_axis_says_and_chance_is_hollow(said):
    drawn = plots.forests(said)
    assert list(drawn) == pairs(tuple(RATES))
    for (mode, other), text in drawn.items():
        root = parse(text)
        x = scale(root)
        changes = [said.average_difference(mode, other)]
        changes += [said.difference(mode, other, task) for task in said.averaged]
        real = [change.is_real for change in changes]
        rows = zip(changes, real, lines(root, "bar"), marks(root), strict=True)
        for found, solid, line, mark in rows:
            assert span(line) == pytest.approx((x(100 * found.low), x(100 * found.high)), abs=0.2)
            assert centre(mark)[0] == pytest.approx(x(100 * found.value), abs=0.2)
            assert ("open" in mark.attrib["class"]) != solid
            assert change(found) in root.attrib["aria-label"]


def test_the_same_axis_for_all_differences(said):
    axes = {tuple(map(scale(parse(text)), (-10, 0, 10))) for text in plots.forests(said).values()}
    assert len(axes) == 1


def test_safety_stands_where_the_axes_say(said):
    drawn = plots.safety(said)
    assert list(drawn) == ["advbench", "lookalikes"]
    root = parse(drawn["advbench"])
    x, up = scale(root), scale(root, "end")
    for mode, mark in zip(said.modes, marks(root), strict=True):
        assert centre(mark)[0] == pytest.approx(
            x(100 * said.score(mode, "advbench").value), abs=0.3
        )
    heights = [up(100 * said.average(mode).value) - 4 for mode in said.modes]
    across = lines(root, "bar")[::2]
    assert [span(line, "y")[0] for line in across] == pytest.approx(heights, abs=0.3)


def test_safety_against_the_one_task_there_is():
    made = [result("csqa", "base", [1.0, 0.0]), result("advbench", "base", [1.0, 0.0], "asr")]
    (drawn,) = plots.safety(Summary.of(made, facts(made))).values()
    assert "csqa, %" in drawn
    assert plots.safety(Summary.of(made[1:], facts(made[1:]))) == {}


def test_scores_are_of_shares_only():
    made = [
        result("csqa", "base", [1.0, 0.0]),
        result("p", "base", [9.0], "word_perplexity"),
    ]
    assert len(marks(parse(plots.scores(Summary.of(made, facts(made)))))) == 1
    assert plots.scores(Summary.of(made[1:], facts(made[1:]))) is None


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (32, 9), (90, 30), (2, 60)])
def test_a_map_stays_in_its_view_box(rows, columns):
    cells = [
        svg.Cell(r, c, float(r * c), f"{r} {c}")
        for r in range(rows)
        for c in range(0, columns, max(1, columns // 9))
    ]
    names = [f"a_projection_{c}" for c in range(columns)]
    root = parse(svg.heat(cells, list(map(str, range(rows))), names, "%", "words"))
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for rect in root.iter("rect"):
        x, y, w, h = (float(rect.attrib[key]) for key in ("x", "y", "width", "height"))
        assert w > 0
        assert 0 <= x <= x + w <= width
        assert 0 <= y <= y + h <= height
    for text in root.iter("text"):
        assert 0 <= float(text.get("y", 1)) <= height


def test_nothing_at_all_is_all_dots():
    root = parse(svg.heat([svg.Cell(0, 0, 0.0, "x")], ["0"], ["q"], "%", "words"))
    assert not any(math.isnan(float(r.attrib["fill-opacity"])) for r in root.iter("rect"))


@pytest.mark.parametrize("items", [1, 2, 5, 19])
@pytest.mark.parametrize("turned", [True, False])
def test_a_task_of_few_items_does_not_stretch_the_axis(items, turned):
    made = results()
    tiny = [result("tiny", mode, [float(turned and mode != "base")] * items) for mode in RATES]
    drawn = plots.forests(Summary.of([*made, *tiny], facts([*made, *tiny])))
    for text in drawn.values():
        root = parse(text)
        x = scale(root)
        widest = (x(10) - x(0)) / 10
        assert widest > 2.5  # a point is so wide; of ±100 it would be 1.1
        labels = [t.text for t in root.iter("text") if t.get("class") == "label"]
        assert labels[-1] == f"tiny, {items} item{'s' * (items > 1)}"
        arrows = [p for p in root.iter("polygon") if p.get("class", "").startswith("on ")]
        assert arrows or items > 5  # of one item an interval is nearly all there is
    before = plots.forests(Summary.of(made, facts(made)))
    assert not any('class="on ' in text for text in before.values())


def test_where_all_tasks_are_of_few_items_all_are_seen():
    made = [result(t, mode, [float(mode == "taia")] * 3) for t in "ab" for mode in RATES]
    for text in plots.forests(Summary.of(made, facts(made))).values():
        assert 'class="on ' not in text
        assert "item" not in "".join(parse(text).itertext())


def test_guessing_is_drawn_where_it_is_known():
    made = [result("csqa", "base", [1.0, 0.0] * 9), result("free", "base", [1.0, 0.0] * 9)]
    asked = replace(made[0], samples=tuple(replace(s, options=5) for s in made[0].samples))
    root = parse(plots.scores(Summary.of([asked, made[1]], facts(made))))
    (line,) = lines(root, "chance")
    assert span(line)[0] == pytest.approx(scale(root)(20), abs=0.2)
