"""The page that compares the modes: files of ours, and nothing from elsewhere."""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Response
from starlette.exceptions import HTTPException

FOLDER: Final = Path(__file__).parent / "page"

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
    files = {path.name: path.read_bytes() for path in sorted(folder.glob("*.*")) if path.is_file()}
    router = APIRouter()

    def page(name: str = "index.html") -> Response:
        if name not in files:
            raise HTTPException(404)
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Response(files[name], media_type=kind, headers=_HEADERS)

    router.add_api_route("/", page, methods=["GET", "HEAD"])
    router.add_api_route("/{name}", page, methods=["GET", "HEAD"])
    return router
