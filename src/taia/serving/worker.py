"""The one thread that drives the model."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from taia.errors import InputError, RunError
from taia.runtime.generation import Generation, Progress, Token
from taia.serving.prompts import Prompter
from taia.serving.scoring import Scoring, batch_of, score
from taia.serving.texts import TokenTexts

if TYPE_CHECKING:
    from taia.runtime.engine import Engine
    from taia.runtime.switchable import SwitchableModel

#: What becomes of something asked: a step of an answer, a scored prompt, or why there is none.
Told: TypeAlias = Progress | tuple[Token, ...] | Exception
#: Called in the worker's thread.
Tell: TypeAlias = Callable[[Told], None]
WorkerState: TypeAlias = Literal["loading", "ready", "failing", "stopped"]

#: So many failed steps in a row mean that the next will fail, too.
_HOPELESS: Final = 3
_LOG: Final = logging.getLogger("taia.serving")


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model ready to answer.

    Attributes:
        model: The model with its modes.
        modes: Mode → selection, of those that are served.
        prompter: Makes prompts of requests.
        texts: The vocabulary's tokens as text.
        engine: Continues prompts.
    """

    model: SwitchableModel
    modes: Mapping[str, str]
    prompter: Prompter
    texts: TokenTexts
    engine: Engine


class Worker:
    """Loads a model and answers from it, in a thread of its own.

    Everything else talks to it through an inbox, so that the model needs no locks. A step that
    fails ends the answers that were under way, and the server goes on with others.

    Args:
        load: Makes the model.
        on_ready: Called in the thread once it is there.
        on_failure: Called in the thread where it could not be made.
    """

    def __init__(
        self,
        load: Callable[[], ServedModel],
        on_ready: Callable[[], None] = lambda: None,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self.state: WorkerState = "loading"
        self.loaded: ServedModel | None = None
        self.failure: Exception | None = None
        self._load = load
        self._on_ready, self._on_failure = on_ready, on_failure
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._tickets: dict[Tell, int] = {}
        self._tells: dict[int, Tell] = {}
        self._scorings: list[tuple[Tell, Scoring]] = []
        self._failed = 0
        self._thread = threading.Thread(target=self._run, name="taia-worker", daemon=True)

    def start(self) -> None:
        """Begin to load."""
        self._thread.start()

    def stop(self) -> None:
        """End after the step that is under way; what is still asked for fails."""
        self._inbox.put(None)

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended, or so many seconds."""
        self._thread.join(timeout)

    def submit(self, tell: Tell, asked: Generation) -> None:
        """Ask for an answer. ``tell`` hears of it until it ends or fails."""
        self._inbox.put(partial(self._add, tell, asked))

    def score(self, tell: Tell, asked: Scoring) -> None:
        """Ask for a prompt's log-probabilities. ``tell`` hears once."""
        self._inbox.put(partial(self._scorings.append, (tell, asked)))

    def cancel(self, tell: Tell) -> None:
        """Nobody listens any more: ``tell`` is not called again, and its row is free."""
        self._inbox.put(partial(self._drop, tell))

    def _run(self) -> None:
        try:
            loaded = self._load()
        except Exception as error:  # for whoever started the thread to raise
            self.failure = error
            self.state = "stopped"
            self._on_failure()
            return
        self._engine, self.loaded, self.state = loaded.engine, loaded, "ready"
        self._on_ready()
        while self._obey():
            if self._scorings:
                self._score(loaded.model)
            if self._engine.has_work:
                self._step()
        self.state = "stopped"
        stopped = RunError("The server stopped.", "Ask again once it is back.")
        self._end_answers(stopped)
        for tell, _ in self._scorings:
            tell(stopped)

    def _obey(self) -> bool:
        """Do what the inbox says, waiting for it only when there is no work; False: stop."""
        wait = not (self._scorings or self._engine.has_work)
        while True:
            try:
                command = self._inbox.get(block=wait)
            except queue.Empty:
                return True
            if command is None:
                return False
            command()
            wait = False

    def _add(self, tell: Tell, asked: Generation) -> None:
        try:
            ticket = self._engine.add(asked)
        except Exception as error:  # it is this request's alone
            tell(error if isinstance(error, InputError) else self._failure(error))
            return
        self._tickets[tell], self._tells[ticket] = ticket, tell

    def _drop(self, tell: Tell) -> None:
        self._scorings = [waiting for waiting in self._scorings if waiting[0] is not tell]
        ticket = self._tickets.pop(tell, None)
        if ticket is not None:
            del self._tells[ticket]
            self._engine.cancel(ticket)

    def _step(self) -> None:
        try:
            done = self._engine.step()
        except Exception as error:  # whatever the model raises; the server goes on
            self._engine.abort()
            self._end_answers(self._failure(error))
            return
        self._succeeded()
        for progress in done:
            tell = self._tells.get(progress.ticket)
            if tell is None:
                continue
            if progress.finish is not None:
                del self._tells[progress.ticket], self._tickets[tell]
            tell(progress)

    def _score(self, model: SwitchableModel) -> None:
        asked = [scoring for _, scoring in self._scorings]
        count = batch_of(asked, model.can_mix)
        batch, self._scorings = self._scorings[:count], self._scorings[count:]
        told: Sequence[Told]
        try:
            told = score(model, asked[:count])
            self._succeeded()
        except Exception as error:  # as above
            told = [self._failure(error)] * count
        for (tell, _), outcome in zip(batch, told, strict=True):
            tell(outcome)

    def _succeeded(self) -> None:
        self._failed, self.state = 0, "ready"

    def _failure(self, error: Exception) -> RunError:
        """What the clients hear of an error; the log has the rest."""
        _LOG.error("A step of the model failed.", exc_info=error)
        self._failed += 1
        if self._failed >= _HOPELESS:
            self.state = "failing"
        return RunError("The model failed at this request.", "The server's log says why.")

    def _end_answers(self, error: Exception) -> None:
        tells, self._tickets, self._tells = list(self._tickets), {}, {}
        for tell in tells:
            tell(error)
