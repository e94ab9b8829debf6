"""Runs as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taia.analysis.norms import Norms
from taia.errors import RunError
from taia.reporting import plots, svg, update, words
from taia.reporting.findings import findings, other_readings
from taia.reporting.runs import FinishedRun, are_alike, columns, run_to_run, side_by_side
from taia.reporting.table import guesses, turned_tasks
from taia.reporting.words import pairs
from taia.text import counted

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True)
class _Section:
    """What is shown of a run.

    Attributes:
        run: The run.
        findings: What it says.
        otherwise: What other readings of a refusal say.
        keys: Mode → its mark.
        compared: The differences shown.
        guesses: What guessing gives, column by column; none where it is not known.
        turned: The tasks whose answers can turn from right to wrong.
        forests: Pair of modes → their differences.
        safety: Task of safety → it against what the modes can do.
        shades: What is shown of each layer and projection of the update, by name.
        plots: Further plots by name.
    """

    run: FinishedRun
    findings: Sequence[str]
    otherwise: Sequence[str]
    keys: Mapping[str, Markup]
    compared: Sequence[tuple[str, str]]
    guesses: Sequence[str]
    turned: Sequence[str]
    forests: Mapping[tuple[str, str], Markup]
    safety: Mapping[str, Markup]
    shades: Mapping[str, Markup]
    plots: Mapping[str, Markup]

    @property
    def forest_note(self) -> str:
        """What the plots of differences show, as far as it is in them."""
        tasks = counted(len(self.run.summary.averaged), "task")
        said = f"The {tasks} of the average." if len(self.run.summary.averaged) > 1 else ""
        beyond = any('class="on ' in drawn for drawn in self.forests.values())
        return (
            f"{said} To the right is better. Bars are 95% intervals; a hollow mark may be chance."
            f"{' An arrow goes beyond the axis: too few items to tell.' if beyond else ''}"
        ).strip()

    @property
    def scores_note(self) -> str:
        """The same of the plot of scores."""
        scores = str(self.plots.get("scores", ""))
        guessing = " The dashed line is guessing." if 'class="chance"' in scores else ""
        alone = " A hollow mark has no interval." if "mark open" in scores else ""
        return f"Bars are 95% intervals.{guessing}{alone}"


def render(runs: Sequence[FinishedRun], command: str) -> str:
    """A report as HTML text. It asks for nothing from the network.

    Args:
        runs: What it shows; each is a section of its own, and those that are alike stand side by
            side first.
        command: What to type to get the report again.

    Raises:
        RunError: If Jinja is not installed.
    """
    alike = are_alike(runs)
    return page(
        "evaluation.html.j2",
        title=_title(runs),
        lead=_lead(runs),
        sections=[_section(run) for run in runs],
        columns=columns(runs) if alike else [],
        together=side_by_side(runs) if alike else {},
        joint=run_to_run(runs) if alike else [],
        w=words,
        u=update,
        command=command,
    )


def render_update(norms: Norms, command: str) -> str:
    """Where an update lives, as an HTML page. It asks for nothing from the network.

    Args:
        norms: Of the update.
        command: What to type to get the page again.

    Raises:
        RunError: If Jinja is not installed.
    """
    return page(
        "inspect.html.j2",
        title=f"Where the update lives: {norms.base} → {norms.tuned}",
        lead="How large the update of the weights is in each part of the model, against the "
        "weights that it changes; how it is shared out; and of how many directions it is.",
        norms=norms,
        shades=_shades(norms, update.SHADES),
        u=update,
        command=command,
    )


def _section(run: FinishedRun) -> _Section:
    summary = run.summary
    curve = svg.losses(run.losses) if run.losses else None
    drawn = {"scores": plots.scores(summary), "losses": curve}
    return _Section(
        run,
        findings(summary, run.norms),
        other_readings(summary),
        legends(summary.modes),
        pairs(summary.modes),
        guesses(summary),
        turned_tasks(summary),
        {pair: drawing(text) for pair, text in plots.forests(summary).items()},
        {task: drawing(text) for task, text in plots.safety(summary).items()},
        {} if run.norms is None else _shades(run.norms, ["size"]),
        {name: drawing(text) for name, text in drawn.items() if text},
    )


def _shades(norms: Norms, names: Iterable[str]) -> dict[str, Markup]:
    return {name: drawing(text) for name in names if (text := update.drawn(norms, name))}


def _title(runs: Sequence[FinishedRun]) -> str:
    if len(runs) == 1:
        return f"What to keep of an update: {runs[0].models}"
    return f"What to keep of an update: {len(runs)} runs"


def _lead(runs: Sequence[FinishedRun]) -> str:
    modes = dict.fromkeys(mode for run in runs for mode in run.summary.modes)
    scopes = dict.fromkeys(words.scope(run.summary) for run in runs)
    tasks = f"{next(iter(scopes))}." if len(scopes) == 1 else "each run with tasks of its own."
    return (
        f"{counted(len(modes), 'mode')}, {tasks} A mode keeps a part of one and the same "
        "update of the weights, and is asked the same items as the others."
    )


def page(template: str, **values: Any) -> str:  # noqa: ANN401 - whatever the template shows
    """Fill a template.

    Args:
        template: Its name in ``templates``.
        **values: What it shows; all of it is escaped but :func:`drawing`.

    Raises:
        RunError: If Jinja is not installed.
    """
    with _installed():
        from jinja2 import Environment, PackageLoader, StrictUndefined
    environment = Environment(
        loader=PackageLoader("taia.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(shapes=svg.SHAPES, **values)


def drawing(text: str) -> Markup:
    """SVG text of our own making, for a template to put in as it is.

    Raises:
        RunError: If Jinja is not installed.
    """
    with _installed():
        from markupsafe import Markup
    return Markup(text)


def legends(modes: Iterable[str]) -> dict[str, Markup]:
    """Mode → its mark, for a line of text."""
    return {mode: drawing(svg.legend(number)) for number, mode in enumerate(modes)}


@contextmanager
def _installed() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise RunError(
            "An HTML report needs jinja2, which is not installed.",
            "Install it with: pip install jinja2, or ask for --format markdown.",
        ) from error
