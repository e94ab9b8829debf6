"""The routes of a server."""

from __future__ import annotations

import hmac
import time
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse

from taia.errors import TaiaError
from taia.serving.pages import pages
from taia.serving.refusal import RefusedError
from taia.serving.service import Service, check_model, failed

#: What this machine's own browser may call it, where there is no key: a page from elsewhere whose
#: name is made to point here does not get in.
_LOCAL = ["localhost", "127.0.0.1", "[::1]"]


def make_app(service: Service) -> FastAPI:
    """An application that answers by a service. It has no documentation pages: theirs load code.

    Args:
        service: Who answers.
    """
    app = FastAPI(title="taia", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(TaiaError, _told)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(Exception, _bug)
    if service.settings.is_loopback and service.settings.api_key is None:
        hosts = [*_LOCAL, service.settings.host]
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)
    app.include_router(_open(service))
    app.include_router(_guarded(service), prefix="/v1")
    app.include_router(pages())
    return app


def _open(service: Service) -> APIRouter:
    """What needs no key."""
    router = APIRouter()

    @router.get("/health")
    async def health() -> Response:
        state = service.worker.state
        return JSONResponse({"status": state}, status_code=200 if state == "ready" else 503)

    @router.get("/metrics")
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    return router


def _guarded(service: Service) -> APIRouter:
    """OpenAI's interface, behind the key where there is one."""

    async def authorised(request: Request) -> None:
        key = service.settings.api_key
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if key is None or (
            scheme.lower() == "bearer"
            and hmac.compare_digest(given.encode("latin-1"), key.encode())
        ):
            return
        raise RefusedError(
            "The key is missing or wrong.",
            "Send the server's key as Authorization: Bearer KEY.",
            status=401,
            code="invalid_api_key",
        )

    router = APIRouter(dependencies=[Depends(authorised)])
    started = int(time.time())

    def model(name: str) -> dict[str, Any]:
        loaded = service.loaded
        check_model(name, loaded.modes)
        return {
            "id": name,
            "object": "model",
            "created": started,
            "owned_by": "taia",
            "selection": loaded.modes[name],
            "max_model_len": loaded.prompter.limits.positions,
        }

    @router.get("/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [model(name) for name in service.loaded.modes]}

    @router.get("/models/{name:path}")
    async def one_model(name: str) -> dict[str, Any]:
        return model(name)

    router.add_api_route("/chat/completions", service.chat, methods=["POST"])
    router.add_api_route("/completions", service.completion, methods=["POST"])
    return router


async def _told(request: Request, error: Exception) -> Response:
    assert isinstance(error, TaiaError)
    refused = failed(error)
    return JSONResponse(refused.to_json(), refused.status, refused.headers)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refused = RefusedError(
        f"{request.method} {request.url.path}: {error.detail}.",
        "docs/serving.md lists what there is.",
        status=error.status_code,
    )
    return JSONResponse(refused.to_json(), refused.status, error.headers)


async def _bug(request: Request, error: Exception) -> Response:
    refused = RefusedError("The server failed.", "Its log says why.", status=500)
    return JSONResponse(refused.to_json(), refused.status)
