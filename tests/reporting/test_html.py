"""The report is well formed, asks for nothing, and shows the comparison's numbers."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from comparisons import comparison, realistic
from pages import Page, contrast, table, text
from taia.reporting.html import Report, render, write_report
from taia.reporting.words import change, findings, interval, pairs, percent

HOSTILE = '</title></code><script src="http://evil.example/x.js">alert("1")</script><img onerror=x>'


def report(made, name="A model", **more) -> Report:
    given = {
        "title": name,
        "lead": "One sentence.",
        "comparison": made,
        "command": f"taia demo --model {name}",
        "losses": [4.0, 1.0],
        "facts": {"Setting": {"model": name, "seed": 0}},
    }
    return Report(**{**given, **more})


def page(made, **more) -> ET.Element:
    return Page(render(report(made, **more))).root


ODD = {
    "four": realistic(),
    "eight": realistic(**{f"all - mlp[{n}:]": f"all - mlp[{n}:]" for n in range(4)}),
    "no skill": comparison({m: {"law": "10"} for m in ("base", "tuned", "taia")}),
    "no knowledge": comparison({m: {"trained": "10"} for m in ("base", "tuned", "taia")}),
    "no base": comparison({m: {"law": "10", "trained": "1"} for m in ("taia", "taif")}),
    "one": comparison({"none": {"law": "1"}}),
}


@pytest.mark.parametrize("made", ODD.values(), ids=ODD)
def test_every_comparison_gives_a_well_formed_page(made):
    root = page(made)
    assert "nan" not in text(root)
    assert not re.search(r"\bnan\b", render(report(made)))
    assert [text(li) for li in root.findall(".//ul[@class='findings']/li")] == findings(made)
    assert len(table(root, "Right answers")) == len(made.modes) + 2
    ids = [e.attrib["id"] for e in root.iter() if "id" in e.attrib]
    assert len(set(ids)) == len(ids)


def test_plots_are_those_that_have_something_to_show():
    counts = {name: [text(c) for c in page(made).iter("figcaption")] for name, made in ODD.items()}
    assert {name: len(found) for name, found in counts.items()} == {
        "four": 5, "eight": 5, "no skill": 3, "no knowledge": 3, "no base": 3, "one": 2,
    }  # fmt: skip
    assert not list(page(ODD["one"], losses=[]).iter("polyline"))


def test_numbers_are_the_comparisons():
    made = realistic(**{"taia-qkvo": "q_proj + k_proj"})
    root = page(made)
    rows = table(root, "Right answers")
    names = [*made.kinds, "all knowledge", "trained skill"]
    sizes = [made.size(group) for group in made.groups]
    assert [text(cell) for cell in rows[0][1:]] == [
        f"{n}{s}" for n, s in zip(names, sizes, strict=True)
    ]
    for mode, (head, *cells) in zip(made.modes, rows[1:], strict=False):
        assert text(head) == mode + ("q_proj + k_proj" if mode == "taia-qkvo" else "")
        estimates = [made.accuracy(mode, group) for group in made.groups]
        assert [(cell.text, text(cell.find("small"))) for cell in cells] == (
            [(percent(e), interval(e)) for e in estimates]
        )
    assert [text(cell) for cell in rows[-1]] == ["guessing", *["25"] * 7]

    for (one, other), (head, *cells) in zip(
        pairs(made.modes), table(root, "Differences")[1:], strict=True
    ):
        assert text(head) == f"{one} − {other}"
        for group, cell in zip(("knowledge", "skill"), cells, strict=True):
            difference = made.difference(one, other, group)
            assert text(cell) == change(difference)
            assert (cell.get("class") == "clear") == difference.is_clear


def test_it_asks_for_nothing():
    source = render(report(ODD["eight"]))
    root = Page(source).root
    assert {e.tag for e in root.iter()}.isdisjoint(
        {"script", "link", "img", "iframe", "object", "embed", "base", "form", "a"}
    )
    keys = {key for e in root.iter() for key in e.attrib}
    assert not {k for k in keys if k in ("src", "href", "srcset", "style") or k.startswith("on")}
    assert not re.search(r"https?:|url\(|@import|//[a-z]", source)


def test_hostile_text_stays_text():
    made = comparison({m: {HOSTILE: "10", "trained": "1"} for m in ("base", "tuned", HOSTILE)})
    hostile = report(made, HOSTILE, lead=HOSTILE, facts={HOSTILE: {HOSTILE: HOSTILE}})
    root = Page(render(hostile)).root
    tame = Page(render(report(made, "tame", lead="tame", facts={"a": {"b": "c"}}))).root
    assert [e.tag for e in root.iter()] == [e.tag for e in tame.iter()]
    assert not {"script", "img"} & {e.tag for e in root.iter()}
    for where in (".//title", ".//h1", ".//p[@class='lead']", ".//dt", ".//dd", ".//summary"):
        assert text(root.find(where)) == HOSTILE
    assert text(root.find(".//pre/code")) == f"taia demo --model {HOSTILE}"
    assert text(table(root, "Right answers")[3][0]) == HOSTILE


def test_every_colour_used_is_one_of_the_page():
    source = render(report(ODD["eight"]))
    used = {c for e in Page(source).root.iter() for c in e.get("class", "").split()}
    styled = set(re.findall(r"\.([a-z]\w*)", source[: source.index("</style>")]))
    assert {c for c in used if re.fullmatch(r"[ms]\d", c)} <= styled
    for scheme in re.findall(r":root \{(.*?)\}", source, re.DOTALL):
        assert {f"--c{n}" for n in range(6)} <= set(re.findall(r"--\w+", scheme))


def test_text_and_marks_can_be_told_from_the_page_in_light_and_dark():
    assert contrast("#fff", "#000000") == pytest.approx(21)
    schemes = re.findall(r":root \{(.*?)\}", render(report(ODD["four"])), re.DOTALL)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+): (#\w+)", scheme))
        for text_colour in ("text", "dim"):
            for ground in ("page", "soft"):
                assert contrast(colours[text_colour], colours[ground]) >= 4.5
        assert all(contrast(colours[f"c{n}"], colours["page"]) >= 3 for n in range(6))


def test_writes_utf_8_and_is_small(tmp_path):
    write_report(tmp_path / "report.html", report(ODD["four"]))
    data = (tmp_path / "report.html").read_bytes()
    assert "−20.7" in data.decode("utf-8")
    assert len(data) < 60_000
