"""A page as a browser shows it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

#: Appended to a copy: what the page measures, as JSON in an attribute of the page around it.
MEASURE = """<script>
const root = document.documentElement;
const outside = (cell, box) => cell.right > box.right + 1 || cell.left < box.left - 1;
const cut = [...document.querySelectorAll("svg.plot")].flatMap(plot =>
  [...plot.querySelectorAll("text")]
    .filter(t => outside(t.getBoundingClientRect(), plot.getBoundingClientRect()))
    .map(t => t.firstChild?.data));
const hidden = [...document.querySelectorAll(".scroll")]
  .filter(s => s.querySelector("tbody th").getBoundingClientRect().width > s.clientWidth / 2)
  .map(s => s.getAttribute("aria-label"));
// Of a line's height a third is no letter.
const apart = (a, b) => a.right <= b.left + 1 || b.right <= a.left + 1
  || Math.min(a.bottom - b.top, b.bottom - a.top) <= Math.min(a.height, b.height) / 3;
const overlaps = [...document.querySelectorAll("svg.plot")].flatMap(plot => {
  const texts = [...plot.querySelectorAll("text")]
    .map(t => [t.firstChild?.data, t.getBoundingClientRect()]);
  return texts.flatMap(([a, one], i) => texts.slice(i + 1)
    .filter(([, other]) => !apart(one, other)).map(([b]) => [a, b]));
});
const scale = t => t.ownerSVGElement ? Math.hypot(t.getScreenCTM().a, t.getScreenCTM().b) : 1;
const words = [...document.querySelectorAll("p, li, th, td, small, summary, figcaption, text")];
const smallest = Math.min(...words.filter(w => w.getClientRects().length)
  .map(w => parseFloat(getComputedStyle(w).fontSize) * scale(w)));
const averages = [...document.querySelectorAll(".scroll")].flatMap(s =>
  [...s.querySelectorAll("th, td.sum")]
    .filter(c => c.matches(".sum") || c.textContent.startsWith("average"))
    .map(c => !outside(c.getBoundingClientRect(), s.getBoundingClientRect())));
const page = {window: innerWidth, page: root.scrollWidth, smallest};
const found = {...page, cut, hidden, overlaps, averages};
parent.document.documentElement.dataset.found = JSON.stringify(found);
</script>"""


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
