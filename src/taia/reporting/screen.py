"""The terminal: data is shown as it is, whatever it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from taia.text import printable


class Screen(Console):
    """A console on which text is never markup, and cannot steer the terminal.

    A string is shown letter by letter, ``[red]`` and ``:smile:`` as well; for a style there is
    ``Text``. What would steer the terminal is shown escaped, of either.

    Args:
        stderr: Where progress goes; results go to stdout.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, highlight=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:  # noqa: ANN401 - Rich's own
        """A string as text, without a style of its own."""
        options |= {"markup": False, "emoji": False, "highlight": False}
        return super().render_str(printable(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """What is written for something, piece by piece."""
        if isinstance(renderable, Text):
            renderable = _escaped(renderable)
        return super().render(renderable, options)

    def on_broken_pipe(self) -> None:
        """Leave it to whoever guards the command."""
        raise


@contextmanager
def status(begin: str) -> Iterator[Callable[[str], None]]:
    """Show on stderr what is being done, while the block runs; nothing outside a terminal.

    Args:
        begin: What is done first.

    Yields:
        What to tell what is done next.
    """
    with Screen(stderr=True).status(Text(begin)) as shown:
        yield lambda words: shown.update(Text(words))


def _escaped(text: Text) -> Text:
    """A text with the same styles on the same letters."""
    if printable(text.plain) == text.plain:
        return text
    parts = text.divide(range(1, len(text)))
    for part in parts:
        part.plain = printable(part.plain)
    whole = text.blank_copy()
    for part in parts:
        whole.append_text(part)
    return whole
