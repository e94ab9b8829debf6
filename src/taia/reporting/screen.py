"""The terminal: data is shown as it is, whatever it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from rich import text as rich_text
from rich.console import Console
from rich.style import Style

from taia.text import printable

#: Columns below which tables lose their words.
_NARROWEST: Final = 40


class Text(rich_text.Text):
    """A text in which what would steer the terminal is shown escaped."""

    def __init__(self, words: str = "", style: str | Style = "", **options: Any) -> None:  # noqa: ANN401 - Rich's own
        super().__init__(printable(words), style, **options)

    def append(
        self, text: str | rich_text.Text, style: str | Style | None = None
    ) -> rich_text.Text:
        """Add words to its end, and give the whole."""
        return super().append(printable(text) if isinstance(text, str) else text, style)


class Screen(Console):
    """A console on which text is never markup, and cannot steer the terminal.

    A string is shown letter by letter, ``[red]`` and ``:smile:`` as well; for a style there is
    :class:`Text`. What would steer the terminal is shown escaped.

    Args:
        stderr: Where progress goes; results go to stdout.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, highlight=False, emoji=False)
        self.width = max(self.width, _NARROWEST)  # COLUMNS=0 would show nothing

    def render_str(self, text: str, **options: Any) -> rich_text.Text:  # noqa: ANN401 - Rich's own
        """A string as text, without a style of its own."""
        options |= {"markup": False, "emoji": False, "highlight": False}
        return super().render_str(printable(text), **options)

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
