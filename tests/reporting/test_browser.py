"""The report as a browser shows it: nothing sticks out, nothing goes wrong."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path

import pytest

from comparisons import realistic
from taia.reporting.html import Report, render

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no chromium, chromium-browser or google-chrome on the PATH"
)

#: Appended to a copy: what the page measures, as JSON in an attribute of the page around it.
MEASURE = """<script>
const root = document.documentElement;
const outside = (cell, box) => cell.right > box.right + 1 || cell.left < box.left - 1;
const cut = [...document.querySelectorAll("svg.plot")].flatMap(plot =>
  [...plot.querySelectorAll("text")]
    .filter(t => outside(t.getBoundingClientRect(), plot.getBoundingClientRect()))
    .map(t => t.textContent));
const hidden = [...document.querySelectorAll(".scroll")]
  .filter(s => s.querySelector("tbody th").getBoundingClientRect().width > s.clientWidth / 2)
  .map(s => s.getAttribute("aria-label"));
const found = {window: innerWidth, page: root.scrollWidth, cut, hidden};
parent.document.documentElement.dataset.found = JSON.stringify(found);
</script>"""

LONG = "attention[0:16] + 0.5*mlp + 0.25*norm[0:8]"
PAGES = {
    "short names": realistic(),
    "long names": realistic(**{LONG: LONG, "taia-qkvo": "q_proj + k_proj", "all - mlp[20:]": "x"}),
}


def look(folder: Path, html: str, width: int) -> tuple[dict, list[str]]:
    """What a page measures in a window so wide, and what the console says."""
    # In a frame: windows are never as narrow as a phone.
    frame = (
        f'<iframe width="{width}" height="4000" frameborder="0" srcdoc="{escape(html + MEASURE)}">'
    )
    (folder / "page.html").write_text(f"<!doctype html>{frame}</iframe>", encoding="utf-8")
    done = subprocess.run(
        [
            BROWSER,
            *"--headless --no-sandbox --disable-gpu --disable-quic --no-first-run".split(),
            *"--disable-background-networking --disable-component-update --disable-sync".split(),
            *"--hide-scrollbars --enable-logging=stderr --dump-dom".split(),
            f"--user-data-dir={folder / 'profile'}",
            (folder / "page.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = re.search(r'data-found="([^"]*)"', done.stdout)
    assert found, done.stderr[-2000:]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(unescape(found[1])), console


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("made", PAGES.values(), ids=PAGES)
def test_nothing_sticks_out_and_nothing_goes_wrong(tmp_path, made, width):
    command = f"taia demo --modes base,tuned,{LONG} --model " + "/a/long/path" * 12
    facts = {"SHA-256": {"model.safetensors": "0123456789abcdef" * 4}}
    html = render(Report("Name-" * 30, "One sentence.", made, command, [4.0, 1.0], facts))
    found, console = look(tmp_path, html, width)
    assert found == {"window": width, "page": width, "cut": [], "hidden": []}
    assert console == []


def test_the_measure_finds_what_is_wrong(tmp_path):
    svg = '<svg class="plot" viewBox="0 0 99 9"><text x="-20" y="9">far</text></svg>'
    table = "<table><tbody><tr><th style='min-width: 380px'>x</th></tr></tbody></table>"
    wide = "<p style='width: 2000px'>wide</p>"
    scroll = f"<div class='scroll' aria-label='Table' style='overflow-x: auto'>{table}</div>"
    html = f"<!doctype html>{svg}{scroll}{wide}<script>nothing.there()</script>"
    found, console = look(tmp_path, html, 390)
    assert found["window"] == 390
    assert found["page"] > 1900
    assert (found["cut"], found["hidden"]) == (["far"], ["Table"])
    assert len(console) == 1
    assert "nothing is not defined" in console[0]
