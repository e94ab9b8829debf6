"""A request under way, seen from the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Final

from taia.errors import InputError
from taia.runtime.generation import Generation, Progress, Token
from taia.serving.refusal import RefusedError
from taia.serving.scoring import Scoring
from taia.serving.worker import Tell, Told, Worker

#: Seconds after which a client that was turned away may try again.
_RETRY_AFTER: Final = 2


class Admission:
    """Counts the answers under way, and turns away what is too much.

    Args:
        rows: How many are written at once.
        capacity: How many are written or wait, at most.
    """

    def __init__(self, rows: int, capacity: int) -> None:
        self.inside = 0
        self._rows = rows
        self._capacity = capacity

    @property
    def running(self) -> int:
        """Answers that are being written."""
        return min(self.inside, self._rows)

    @property
    def waiting(self) -> int:
        """Answers that wait for their turn."""
        return self.inside - self.running

    def enter(self, answers: int) -> None:
        """Let answers in.

        Raises:
            RefusedError: If there are too many.
        """
        if answers > self._capacity:
            raise RefusedError(
                f"{answers} answers are asked for at once.",
                f"This server takes at most {self._capacity} in one request.",
            )
        if self.inside + answers > self._capacity:
            raise RefusedError(
                f"{self.waiting} answers wait already.",
                "Try again a little later.",
                status=429,
                code="rate_limit_exceeded",
                retry_after=_RETRY_AFTER,
            )
        self.inside += answers

    def leave(self, answers: int) -> None:
        """Answers that ended, in whatever way."""
        self.inside -= answers


class Call:
    """What one request asked of the worker, and what the worker tells of it.

    Args:
        worker: Who answers.
        gate: What it must pass; it is inside until :meth:`close`.
        answers: For how many.
        timeout: Seconds until it is given up.

    Raises:
        RefusedError: If the gate turns it away.
    """

    def __init__(self, worker: Worker, gate: Admission, answers: int, timeout: float) -> None:
        gate.enter(answers)
        self._worker, self._gate, self._answers = worker, gate, answers
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._deadline = self._loop.time() + timeout
        self._told: asyncio.Queue[tuple[int, Told]] = asyncio.Queue()
        self._open: dict[int, Tell] = {}
        self._closed = False

    def close(self) -> None:
        """Give up what has not ended, and leave."""
        for tell in self._open.values():
            self._worker.cancel(tell)
        self._open.clear()
        if not self._closed:
            self._gate.leave(self._answers)
        self._closed = True

    async def scores(self, asked: Sequence[Scoring]) -> list[tuple[Token, ...]]:
        """Prompts' tokens with their log-probabilities, in order.

        Raises:
            RefusedError: If it takes too long.
            RunError: If the model failed.
        """
        for index, scoring in enumerate(asked):
            self._worker.score(self._tell(index), scoring)
        found: dict[int, tuple[Token, ...]] = {}
        while self._open:
            index, told = await self._next()
            assert isinstance(told, tuple)
            found[index] = told
            del self._open[index]
        return [found[index] for index in range(len(asked))]

    async def progress(self, asked: Sequence[Generation]) -> AsyncIterator[tuple[int, Progress]]:
        """Steps of all answers, with the answer's place among those asked, until all have ended.

        Raises:
            RefusedError: If it takes too long.
            RunError: If the model failed.
        """
        for index, generation in enumerate(asked):
            self._worker.submit(self._tell(index), generation)
        while self._open:
            index, told = await self._next()
            assert isinstance(told, Progress)
            if told.finish is not None:
                del self._open[index]
            yield index, told

    def _tell(self, index: int) -> Tell:
        def tell(told: Told) -> None:
            with suppress(RuntimeError):  # the loop has ended: nobody is there to hear it
                self._loop.call_soon_threadsafe(self._told.put_nowait, (index, told))

        self._open[index] = tell
        return tell

    async def _next(self) -> tuple[int, Told]:
        left = self._deadline - self._loop.time()
        try:
            index, told = await asyncio.wait_for(self._told.get(), max(left, 0))
        except TimeoutError:
            raise RefusedError(
                f"The answer took longer than {self._timeout:g} s.",
                "Ask for fewer tokens, or raise the server's --timeout.",
                status=504,
                code="timeout",
            ) from None
        if isinstance(told, Exception):
            del self._open[index]
            if isinstance(told, InputError) and not isinstance(told, RefusedError):
                raise RefusedError(told.problem, told.mend) from told
            raise told
        return index, told
