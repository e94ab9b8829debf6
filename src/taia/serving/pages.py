"""The page that compares the modes: files of ours, and nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import APIRouter, Response
from starlette.exceptions import HTTPException

FOLDER: Final = Path(__file__).parent / "page"

_KINDS: Final = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def pages(folder: Path = FOLDER) -> APIRouter:
    """Routes to the files of a folder, ``index.html`` at ``/``. It is read once.

    Args:
        folder: Where they lie; without one there are no routes but a 404 at ``/``.
    """
    files = {path.name: path.read_bytes() for path in folder.glob("*.*") if path.suffix in _KINDS}
    router = APIRouter()

    def page(name: str = "index.html") -> Response:
        if name not in files:
            raise HTTPException(404)
        return Response(files[name], media_type=_KINDS[Path(name).suffix], headers=_HEADERS)

    router.add_api_route("/", page, methods=["GET", "HEAD"])
    router.add_api_route("/{name}", page, methods=["GET", "HEAD"])
    return router
