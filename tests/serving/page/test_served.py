"""The compare page on the real server, with a tiny model."""

from __future__ import annotations

import pytest

pytest.importorskip("fastapi", reason="fastapi is not installed")
pytest.importorskip("uvicorn", reason="uvicorn is not installed")
pytest.importorskip("httpx", reason="httpx is not installed")

import tiny_server


def expect(locator):
    from playwright.sync_api import expect

    return expect(locator)


@pytest.fixture(scope="module")
def server():
    with tiny_server.ready() as running:
        yield running


def ask(page, tokens):
    page.fill("[name=prompt]", "hello")
    page.fill("[name=max_tokens]", str(tokens))
    page.press("[name=prompt]", "Control+Enter")


def test_columns_show_what_the_server_answers(server, visit):
    page = visit(server.url)
    ask(page, 12)
    expect(page.locator("#status")).to_have_text("All 3 answers are there.")
    assert page.locator("h2").all_inner_texts()[:3] == list(tiny_server.MODES)
    assert page.locator(".selection").all_inner_texts() == list(tiny_server.MODES.values())
    shown = [answer.text_content() for answer in page.locator(".answer").all()]
    said = [server.chat(model=mode, max_tokens=12, seed=0) for mode in tiny_server.MODES]
    assert shown == [answer["choices"][0]["message"]["content"] for answer in said]
    assert len(set(shown)) == 3
    figures = page.locator(".figures").all_inner_texts()
    assert [int(text.split()[0]) for text in figures] == [
        answer["usage"]["completion_tokens"] for answer in said
    ]


def test_a_vote_on_real_answers(server, visit):
    page = visit(server.url)
    page.check("[name=blind]")
    ask(page, 4)
    expect(page.locator("#ballot")).to_be_visible()
    page.keyboard.press("1")
    expect(page.locator("#tally")).to_contain_text("1 of 1")


def test_what_the_server_refuses_is_told(server, visit):
    page = visit(server.url)
    ask(page, 10**6)
    expect(page.locator(".column .trouble").first).to_contain_text("at most 2048")
