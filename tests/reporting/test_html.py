"""The report is well formed, asks for nothing, and shows the comparison's numbers."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest

from comparisons import comparison, realistic
from taia.reporting.html import Report, render, write_report
from taia.reporting.words import change, findings, interval, pairs, percent

VOID = {"meta", "br", "img", "link", "input", "hr"}
HOSTILE = '</title></code><script src="http://evil.example/x.js">alert("1")</script><img onerror=x>'


class Page(HTMLParser):
    """An element tree of a page; whatever is not nested properly fails."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.root = ET.Element("page")
        self.open = [self.root]
        self.feed(text)
        self.close()
        assert self.open == [self.root], f"not closed: {[x.tag for x in self.open]}"

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"an attribute twice: {attrs}"
        element = ET.SubElement(self.open[-1], tag, {k: v or "" for k, v in attrs})
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop().tag == tag

    def handle_data(self, data):
        element = self.open[-1]
        if len(element):
            element[-1].tail = (element[-1].tail or "") + data
        else:
            element.text = (element.text or "") + data


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


def text(element: ET.Element) -> str:
    return " ".join("".join(element.itertext()).split())


def table(root: ET.Element, label: str) -> list[list[ET.Element]]:
    region = root.find(f".//div[@aria-label='{label}']")
    return [list(row) for row in region.iter("tr")]


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


def contrast(one: str, other: str) -> float:
    """The ratio of WCAG 2, from 1 to 21."""

    def light(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(c + c for c in colour[1:])
        parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


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
