"""The page's files, and nothing else, with headers that let in nothing from elsewhere."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from taia.serving.pages import pages


@pytest.fixture
def client(tmp_path):
    (tmp_path / "index.html").write_text("<!doctype html>")
    (tmp_path / "app.js").write_text("1")
    (tmp_path / "notes.py").write_text("1")
    (tmp_path.parent / "secret.html").write_text("no")
    app = FastAPI()
    app.include_router(pages(tmp_path))
    return TestClient(app)


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/", "text/html"), ("/index.html", "text/html"), ("/app.js", "text/javascript")],
)  # fmt: skip
def test_files_have_their_types_and_the_headers(client, path, kind):
    said = client.get(path)
    assert said.headers["content-type"].startswith(kind)
    assert said.headers["content-security-policy"].startswith("default-src 'self';")
    assert said.headers["x-content-type-options"] == "nosniff"
    assert client.head(path).status_code == 200


@pytest.mark.parametrize("path", ["/notes.py", "/nothing", "/..%2Fsecret.html", "/%2e%2e/app.js"])
def test_nothing_else_is_there(client, path):
    assert client.get(path).status_code == 404
