"""One answer in the making."""

from __future__ import annotations

import random

from taia.runtime.detokenise import Detokeniser
from taia.runtime.generation import Finish, Generation, Progress, Token
from taia.runtime.stops import Stops


class Answer:
    """What a row of a batch is about.

    Attributes:
        ticket: Its number.
        request: What was asked for.
        last: Its newest token, which no forward has seen.
    """

    def __init__(
        self, ticket: int, request: Generation, room: int, detokeniser: Detokeniser
    ) -> None:
        self.ticket = ticket
        self.request = request
        self.last = request.prompt[-1]
        self._left = min(request.max_new_tokens, room)
        self._detokeniser = detokeniser
        self._stops = Stops(request.stop)
        self._random = random.Random(request.seed)

    def uniform(self) -> float:
        """The number that decides the next draw: of this answer's own sequence."""
        return self._random.random() if self.request.temperature > 0 else 0.0

    def take(self, token: Token) -> Progress:
        """Go on by a token."""
        if token.id in self.request.end:
            return self._end((), "stop")
        self.last = token.id
        self._left -= 1
        text, stopped = self._stops.push(self._detokeniser.push(token.id))
        if stopped:
            return Progress(self.ticket, text, (token,), "stop")
        if not self._left:
            return self._end((token,), "length", text)
        return Progress(self.ticket, text, (token,))

    def cancel(self) -> Progress:
        """End here."""
        return self._end((), "cancelled")

    def _end(self, tokens: tuple[Token, ...], finish: Finish, text: str = "") -> Progress:
        """The end, with the text that was held back."""
        rest, stopped = self._stops.push(self._detokeniser.flush())
        if not stopped:
            rest += self._stops.flush()
        return Progress(self.ticket, text + rest, tokens, "stop" if stopped else finish)
