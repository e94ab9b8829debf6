"""An HTML page that needs nothing else: one look for all reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from taia.errors import RunError
from taia.reporting import svg
from taia.reporting.words import interval, percent


def page(template: str, drawings: Mapping[str, Mapping[str, str]], **values: Any) -> str:  # noqa: ANN401 - whatever the template shows
    """Fill a template.

    Args:
        template: Its name in ``templates``.
        drawings: Name → name → SVG text of our own making, put in as it is.
        **values: What else the template shows; all of it is escaped.

    Raises:
        RunError: If Jinja is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise RunError(
            "An HTML report needs jinja2, which is not installed.",
            "Install it with: pip install 'taia[eval]', or ask for --format markdown.",
        ) from error
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("taia.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    drawn = {
        name: {key: Markup(text) for key, text in some.items()} for name, some in drawings.items()
    }
    told = {"percent": percent, "interval": interval, "shapes": svg.SHAPES}
    return environment.get_template(template).render(**told, **drawn, **values)


def legends(modes: Iterable[str]) -> dict[str, str]:
    """Mode → its mark, for a line of text."""
    return {mode: svg.legend(number) for number, mode in enumerate(modes)}
