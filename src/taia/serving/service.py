"""From a request's JSON to its answer, whole or as a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from taia.errors import TaiaError
from taia.runtime.generation import Generation
from taia.serving.call import Admission, Call
from taia.serving.forms.chat import ChatForm
from taia.serving.forms.completion import CompletionForm
from taia.serving.forms.form import Form
from taia.serving.http import EventStream, read_json, unless_gone
from taia.serving.metrics import Metrics, RequestWatch
from taia.serving.refusal import RefusedError
from taia.serving.requests import ChatAsked, CompletionAsked, RequestBody, read
from taia.serving.scoring import Scoring
from taia.serving.settings import ServingSettings
from taia.serving.worker import ServedModel, Worker

#: A client that reads nothing gets so many seconds more than one whose answer does not come.
_LINGER = 10.0


def failed(error: TaiaError) -> RefusedError:
    """An error as clients see it."""
    if isinstance(error, RefusedError):
        return error
    return RefusedError(error.problem, error.mend, status=500, code="failed")


def check_model(name: str, modes: Mapping[str, str]) -> None:
    """Check that a model's id is a mode.

    Raises:
        RefusedError: If not; it lists those that there are.
    """
    if name not in modes:
        raise RefusedError(
            f"There is no model {name!r} here.",
            f"There are {', '.join(modes)}.",
            status=404,
            param="model",
            code="model_not_found",
        )


@dataclass(frozen=True, slots=True)
class _Job:
    """A request that was let in."""

    call: Call
    form: Form
    generations: list[Generation]
    watch: RequestWatch

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """The answer in pieces; an error is the last of them."""
        for piece in self.form.first_pieces():
            yield piece
        try:
            async for index, progress in self.call.progress(self.generations):
                self.watch.token()
                if (step := self.form.piece(index, progress)) is not None:
                    yield step
        except TaiaError as error:
            refused = failed(error)
            self.close(refused.status)
            yield refused.to_json()
        else:
            if self.form.asked.wants_usage:
                yield self.form.last_piece()

    async def whole(self) -> dict[str, Any]:
        """The answer in one piece."""
        async for index, progress in self.call.progress(self.generations):
            self.watch.token()
            self.form.add(index, progress)
        return self.form.whole()

    def close(self, status: int) -> None:
        """Free what it holds, and count it."""
        self.call.close()
        usage = self.form.usage
        self.watch.end(status, usage["prompt_tokens"], usage["completion_tokens"])


class Service:
    """Answers requests by a worker.

    Args:
        worker: Who drives the model.
        settings: What is allowed.
    """

    def __init__(self, worker: Worker, settings: ServingSettings) -> None:
        self.worker, self.settings = worker, settings
        self.gate = Admission(settings.max_rows, settings.capacity)
        self.metrics = Metrics(self.gate)

    @property
    def loaded(self) -> ServedModel:
        """The model.

        Raises:
            RefusedError: If it is not loaded yet.
        """
        if self.worker.loaded is None or self.worker.state == "loading":
            raise RefusedError(
                "The model is still being loaded.",
                "Try again a little later; /health says when it is ready.",
                status=503,
                code="loading",
                retry_after=5,
            )
        return self.worker.loaded

    async def chat(self, request: Request) -> Response:
        """``POST /v1/chat/completions``."""
        return await self._answer(request, ChatAsked, "chat")

    async def completion(self, request: Request) -> Response:
        """``POST /v1/completions``."""
        return await self._answer(request, CompletionAsked, "completion")

    async def _answer(self, request: Request, kind: type[RequestBody], name: str) -> Response:
        watch = RequestWatch(self.metrics, name)
        try:
            body = await read_json(request, self.settings.max_body, self.settings.body_timeout)
            return await unless_gone(request, self._begin(self._read(kind, body, watch), watch))
        except ClientDisconnect:
            watch.end(499)
            return Response(status_code=499)
        except TaiaError as error:
            watch.end(failed(error).status)
            raise

    def _read(
        self, kind: type[RequestBody], body: Mapping[str, Any], watch: RequestWatch
    ) -> RequestBody:
        modes = self.loaded.modes
        asked = read(kind, body)
        check_model(asked.model, modes)
        watch.mode = asked.model
        return asked

    async def _begin(self, asked: RequestBody, watch: RequestWatch) -> Response:
        loaded = self.loaded
        prompts = loaded.prompter.prompts(asked)
        generations = loaded.prompter.generations(asked, prompts)
        call = Call(
            self.worker,
            self.gate,
            max(len(generations), len(prompts)),
            self.settings.timeout,
        )
        streams = False
        form: Form
        try:
            if isinstance(asked, CompletionAsked):
                scored = await call.scores(_scorings(asked, prompts))
                form = CompletionForm(asked, prompts, loaded.texts, scored)
            else:
                form = ChatForm(asked, prompts, loaded.texts)
            job = _Job(call, form, generations, watch)
            if streams := asked.stream:
                return self._stream(job)
            answer = JSONResponse(await job.whole())
            job.close(200)
            return answer
        finally:
            if not streams:
                call.close()

    def _stream(self, job: _Job) -> Response:
        return EventStream(
            job.events(),
            self.settings.timeout + _LINGER,
            lambda complete: job.close(200 if complete else 499),
        )


def _scorings(asked: CompletionAsked, prompts: list[tuple[int, ...]]) -> list[Scoring]:
    """What must be known of the prompts to echo them."""
    if not asked.echo or asked.logprobs is None:
        return []
    return [Scoring(asked.model, prompt, asked.logprobs) for prompt in prompts]
