"""HTTP's own side: bodies in, streams of events out, clients that go away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

from fastapi import Request
from pydantic_core import from_json
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from taia.serving.refusal import RefusedError

T = TypeVar("T")


async def read_json(request: Request, limit: int, timeout: float) -> Mapping[str, Any]:
    """The JSON object in a request's body.

    Args:
        request: The request.
        limit: Bytes it may have.
        timeout: Seconds it may take to arrive.

    Raises:
        RefusedError: If it is too large, too slow, or no JSON object.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        # A page in a browser may send other types anywhere without being asked: keep them out.
        raise RefusedError(
            f"The body is {kind or 'of no type'}, not JSON.",
            "Send it with the header Content-Type: application/json.",
            status=415,
        )
    try:
        body = await asyncio.wait_for(_read(request, limit), timeout)
    except TimeoutError:
        raise RefusedError(
            f"The body did not arrive within {timeout:g} s.", "Send it faster.", status=408
        ) from None
    try:
        told = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise RefusedError(f"The body is not JSON: {error}.", "Send a JSON object.") from error
    if not isinstance(told, dict):
        raise RefusedError("The body is not a JSON object.", "Send one, such as {…}.")
    return told


async def _read(request: Request, limit: int) -> bytes:
    declared = request.headers.get("content-length", "")
    plain = declared.isascii() and declared.isdigit() and len(declared) < 20
    size = int(declared) if plain else 0
    parts: list[bytes] = []
    if size <= limit:
        size = 0
        async for part in request.stream():
            parts.append(part)
            size += len(part)
            if size > limit:
                break
    if size > limit:
        raise RefusedError(
            f"The body is larger than {limit} bytes.", "Send a shorter prompt.", status=413
        )
    return b"".join(parts)


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """What some work comes to, unless the client goes away meanwhile.

    Raises:
        ClientDisconnect: If it did; the work is cancelled.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        gone.cancel()
        task.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class EventStream(StreamingResponse):
    """Server-sent events that end with ``[DONE]``.

    Args:
        events: What to send, as JSON.
        timeout: Seconds after which a client that does not read is left alone.
        close: Called at the end, however it comes, with whether all was sent.
    """

    def __init__(
        self,
        events: AsyncIterator[Mapping[str, Any]],
        timeout: float,
        close: Callable[[bool], None],
    ) -> None:
        super().__init__(
            self._lines(events),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )
        self._timeout, self._close = timeout, close
        self._complete = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the stream."""
        try:
            await asyncio.wait_for(super().__call__(scope, receive, send), self._timeout)
        except TimeoutError:
            raise ClientDisconnect from None
        finally:
            self._close(self._complete)

    async def _lines(self, events: AsyncIterator[Mapping[str, Any]]) -> AsyncIterator[str]:
        async for event in events:
            yield f"data: {json.dumps(event, ensure_ascii=False, separators=(',', ':'))}\n\n"
        self._complete = True
        yield "data: [DONE]\n\n"
