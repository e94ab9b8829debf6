"""An HTML page that needs nothing else: one look for all reports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from taia.errors import RunError
from taia.reporting import svg
from taia.reporting.words import interval, percent

if TYPE_CHECKING:
    from markupsafe import Markup


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
    told = {"percent": percent, "interval": interval, "shapes": svg.SHAPES}
    return environment.get_template(template).render(**told, **values)


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
