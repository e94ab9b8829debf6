"""A search for a mend as one HTML file that needs nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taia.reporting import mended as words
from taia.reporting import svg
from taia.reporting.html import drawing, legends, page
from taia.reporting.mended import MendJson, percent
from taia.text import in_time

if TYPE_CHECKING:
    from markupsafe import Markup

#: Candidates that have a mark of their own, beside base, tuned and the choice.
_NAMED = ("taia", "taif")


def render(found: MendJson) -> str:
    """The page of a search, from what ``mend.json`` holds.

    Raises:
        RunError: If Jinja is not installed.
    """
    rows = words.table(found)
    choice = found["choice"]
    marked = ["base", "tuned", *([choice["name"]] if choice else []), *_NAMED]
    names = [name for name in dict.fromkeys(marked) if any(row["name"] == name for row in rows)]
    return page(
        "mended.html.j2",
        title="Is the fine-tune worse, and what should be kept of it?",
        lead=words.lead(found),
        answers=words.answers(found),
        rows=rows,
        chosen=choice["name"] if choice else None,
        plot=_plot(rows, names) if len(rows) > len(("base", "tuned")) else None,
        keys=legends(names),
        w=words,
        command=words.command(found),
        selection=choice["selection"] if choice else "",
        written=found["written"],
        notes=found["notes"],
        facts=_facts(found),
        again=found["facts"]["command"],
    )


def _plot(rows: list[dict[str, object]], names: list[str]) -> Markup:
    ways = []
    for row in rows:
        kept, restored = row["kept"]["value"], row["restored"]["value"]  # type: ignore[index]
        if kept is not None and restored is not None:
            mode = names.index(str(row["name"])) if row["name"] in names else None
            ways.append(svg.Tradeoff(str(row["name"]), restored, kept, mode))
    told = "; ".join(
        f"{w.name}: keeps {percent(w.upwards)}, back {percent(w.across)}" for w in ways
    )
    across = "of the change in general answers, % taken back"
    return drawing(svg.trade(ways, across, "of what was learnt, % kept", told))


def _facts(found: MendJson) -> dict[str, dict[str, str]]:
    facts = found["facts"]
    settings = {
        "base": facts["base"],
        "tuned": facts["tuned"],
        "budget": in_time(facts["budget"]),
        "seed": str(facts["seed"]),
        "took": in_time(facts["seconds"]),
        "measurements": str(found["evaluations"]),
        "made": facts["created"],
        **{name: str(version) for name, version in facts["versions"].items()},
    }
    lies = {
        one["place"]: f"{percent(one['learnt'])} of what was learnt, {percent(one['harm'])} of the "
        "change in general answers"
        for one in found["places"]
    }
    tries = {
        row["name"]: " · ".join(filter(None, (row["selection"], row.get("method"))))
        for row in found["candidates"]
    }
    return {
        **({"Where learning and change lie": lies} if lies else {}),
        "Every way that was tried, as taia compose takes it": tries,
        "Settings": settings,
    }
