"""A browser for the compare page, and what it must never do."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest

from fake_openai import FakeServer, running

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@dataclass
class Visit:
    """A page in a browser profile of its own.

    Attributes:
        page: Playwright's.
        console: What the page said there, but for refusals that a test asks for.
        requests: Addresses it asked for.
    """

    page: Any
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if BROWSER is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on the PATH")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., FakeServer]]:
    """Starts a fake server from its scripts."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(running(FakeServer(*args, **options)))


@pytest.fixture
def visit(browser) -> Iterator[Callable[..., Any]]:
    """Opens an address in a new profile; at the end nothing may have gone wrong there."""
    visits: list[Visit] = []

    def open_page(url: str, *, width: int = 1280, height: int = 800, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        made = Visit(context.new_page())
        made.page.on("console", lambda message: made.console.append(message.text))
        made.page.on("pageerror", lambda error: made.console.append(str(error)))
        made.page.on("request", lambda request: made.requests.append(request.url))
        visits.append(made)
        made.page.goto(url)
        return made.page

    yield open_page
    for made in visits:
        made.page.context.close()
        refusals = "Failed to load resource"
        assert [line for line in made.console if not line.startswith(refusals)] == []
        hosts = {urlsplit(url).netloc for url in made.requests if url.startswith("http")}
        assert len(hosts) == 1
