"""Many answers at once, in whatever modes, over one model.

The engine keeps batches of running answers. A step lets waiting prompts run, gives every running
answer its next token, drops the answers that have ended and joins the new ones to the others
(continuous batching): no answer waits for the longest of a batch.

Served and offline answers come from the same loop, and a row never attends to another one or to
padding, so an answer does not depend on what runs beside it but for rounding.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import torch

from taia.errors import InputError, RunError
from taia.runtime.answer import Answer
from taia.runtime.batch import Batch, Padded, Single
from taia.runtime.check import Limits
from taia.runtime.detokenise import Vocabulary
from taia.runtime.forward import Forward, at_rest, can_pad, can_share
from taia.runtime.generation import Generated, Generation, Progress
from taia.runtime.heads import Heads
from taia.runtime.sampling import choose

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from taia.runtime.switchable import SwitchableModel

_PROMPT_TOKENS: Final = 4096  # that run together, padding included
_PADDING: Final = 0.2  # of a group of prompts, at most; beyond it, two forwards are cheaper


class Engine:
    """Many answers at once, in whatever modes, over one model (continuous batching).

    Rows of all modes share one batch where the model can mix them; else there is one batch a mode,
    and the model is switched between their forwards. Answers whose state cannot be cut and joined
    (recurrent, or with positions that padding moves) run one row a batch.

    :meth:`add`, :meth:`cancel` and :meth:`wait` may be called from any thread; :meth:`step`,
    :meth:`abort` and :meth:`generate` from one.

    Args:
        model: The model with its modes.
        tokenizer: Its tokenizer.
        max_rows: How many answers run at once; more wait.
    """

    def __init__(
        self, model: SwitchableModel, tokenizer: PreTrainedTokenizerBase, *, max_rows: int = 32
    ) -> None:
        if max_rows < 1:
            raise InputError(f"max_rows is {max_rows}.", "Let at least one answer run at a time.")
        live: Any = model.model
        self._model = model
        self._max_rows = max_rows
        self._vocabulary = Vocabulary(tokenizer)
        self._forward = Forward(live)
        self._joins = can_share(live) and can_pad(live)
        self._limits = Limits.of(live)
        self._batches: list[Batch] = []
        self._waiting: deque[Answer] = deque()
        self._cancelled: set[int] = set()
        #: Tickets of answers that wait or run.
        self._open: set[int] = set()
        self._next = 0
        #: So many answers begin together, where others run; and what their prompts begin with.
        self._together, self._heads = 1, Heads(model, self._forward)
        self._failed = False
        self._changed = threading.Condition()

    @property
    def has_work(self) -> bool:
        """Whether an answer waits or runs."""
        return bool(self._open)

    @property
    def max_length(self) -> int | None:
        """How many tokens prompt and answer may have together, None where nothing limits them."""
        return self._limits.positions

    def add(self, request: Generation) -> int:
        """Ask for an answer.

        Returns:
            Its ticket.

        Raises:
            InputError: If the mode is unknown, the prompt is empty, leaves no room for an answer or
                has tokens that the model lacks, or an option has no sense.
        """
        self._limits.check(request, self._model.modes)
        room = self._limits.room(request)
        detokeniser = self._vocabulary.after(request.prompt)
        with self._changed:
            ticket, self._next = self._next, self._next + 1
            self._waiting.append(Answer(ticket, request, room, detokeniser))
            self._open.add(ticket)
            self._changed.notify_all()
        return ticket

    def cancel(self, ticket: int) -> None:
        """End an answer at the next step; one that has ended stays as it is."""
        with self._changed:
            if ticket in self._open:
                self._cancelled.add(ticket)

    def wait(self, timeout: float | None = None) -> bool:
        """Block until there is work, or so many seconds; whether there is."""
        with self._changed:
            return self._changed.wait_for(lambda: self.has_work, timeout)

    def step(self) -> list[Progress]:
        """Let waiting prompts run, and go on by one token in every running answer.

        Returns:
            What was added to each answer that went on or ended, at most one entry an answer.

        Raises:
            RunError: If the step before failed and :meth:`abort` was not called.
            Exception: Whatever a forward raises, memory that runs out for one. No answer is lost,
                but all have to be dropped with :meth:`abort`, as their caches may be half written.
        """
        if self._failed:
            raise RunError("The engine's last step failed.", "Drop its answers with abort().")
        try:
            with at_rest(self._model.model):
                return self._step()
        except BaseException:
            self._failed = True
            raise

    def abort(self) -> list[int]:
        """Drop every answer; their tickets, in the order they were added."""
        with self._changed:
            tickets = sorted(self._open)
            self._batches.clear()
            self._waiting.clear()
            self._cancelled.clear()
            self._open.clear()
            self._together, self._heads = 1, Heads(self._model, self._forward)
            self._failed = False
        return tickets

    def generate(
        self, requests: Sequence[Generation], progress: Callable[[int], None] | None = None
    ) -> list[Generated]:
        """Write all answers.

        Args:
            requests: What is asked for.
            progress: Told how many answers have just ended.

        Returns:
            The answers, in the requests' order.

        Raises:
            InputError: See :meth:`add`. Nothing has been written then.
            RunError: If the engine is at work on something else.
        """
        if self.has_work:
            raise RunError("The engine has answers to write.", "Use another engine, or wait.")
        for request in requests:
            self._limits.check(request, self._model.modes)
        # One mode after the other, as rows of several cost more; rows of like length together, the
        # longest first: little padding, and no long answer that is alone at the end.
        order = sorted(enumerate(requests), key=lambda one: (one[1].mode, -len(one[1].prompt)))
        modes = deque([*some] for _, some in groupby(order, key=lambda one: one[1].mode))
        parts: dict[int, list[Progress]] = {}
        tickets: dict[int, int] = {}
        try:
            self._together = max(1, self._max_rows // 4)
            self._heads = Heads(self._model, self._forward, requests)
            while modes or self.has_work:
                while modes and len(self._open) <= self._max_rows - self._together:
                    tickets |= {index: self.add(request) for index, request in modes.popleft()}
                for part in (done := self.step()):
                    parts.setdefault(part.ticket, []).append(part)
                if progress and (ended := sum(part.finish is not None for part in done)):
                    progress(ended)
        finally:
            self.abort()
        return [Generated.of(parts[tickets[index]]) for index in range(len(requests))]

    def _step(self) -> list[Progress]:
        gone, fresh = self._intake()
        done = [answer.cancel() for answer in gone]
        batches = [*self._batches, *self._grouped(fresh)]
        if batches:
            done += self._advance(batches)
        ended = {part.ticket for part in done if part.finish is not None}
        self._batches = self._joined(self._without(batches, ended))
        with self._changed:
            self._open -= ended
            self._cancelled -= ended
        return done

    def _intake(self) -> tuple[list[Answer], list[Answer]]:
        """Answers that were cancelled, taken out, and waiting ones that may run now."""
        with self._changed:
            cancelled = set(self._cancelled)
            gone = [answer for answer in self._waiting if answer.ticket in cancelled]
            for answer in gone:
                self._waiting.remove(answer)
            for batch in self._batches:
                gone += [answer for answer in batch.answers if answer.ticket in cancelled]
            self._batches = self._without(self._batches, cancelled)
            running = sum(len(batch.answers) for batch in self._batches)
            begin = min(self._max_rows - running, len(self._waiting))
            if running and begin < min(self._together, len(self._waiting)):
                begin = 0
            fresh = [self._waiting.popleft() for _ in range(begin)]
        return gone, fresh

    def _advance(self, batches: Sequence[Batch]) -> list[Progress]:
        """One forward a batch, one token an answer."""
        logits = []
        for batch in batches:
            with self._model.rows(batch.modes):
                logits.append(batch.forward())
        answers = [answer for batch in batches for answer in batch.answers]
        tokens = choose(
            torch.cat(logits),
            [answer.request for answer in answers],
            [answer.uniform() for answer in answers],
        )
        return [answer.take(token) for answer, token in zip(answers, tokens, strict=True)]

    def _grouped(self, answers: Sequence[Answer]) -> Iterator[Batch]:
        """Batches of prompts that have not run."""
        if not self._joins:
            yield from (Single(self._forward, answer) for answer in answers)
            return
        group: list[Answer] = []
        for answer in sorted(answers, key=lambda a: (self._kind(a), -len(a.request.prompt))):
            if group and not self._fits(group, answer):
                yield self._padded(group)
                group = []
            group.append(answer)
        if group:
            yield self._padded(group)

    def _padded(self, group: Sequence[Answer]) -> Padded:
        """A batch in which the rows of a mode follow each other, as they are scaled together."""
        rows = sorted(group, key=lambda answer: answer.request.mode)
        return Padded(self._forward, rows, self._heads)

    def _fits(self, group: Sequence[Answer], answer: Answer) -> bool:
        """Whether a prompt, no longer than those of a group, may run with them."""
        lengths = [len(m.request.prompt) - len(self._heads.tokens) for m in [*group, answer]]
        whole = lengths[0] * len(lengths)
        return (
            self._kind(group[0]) == self._kind(answer)
            and whole <= _PROMPT_TOKENS
            and whole - sum(lengths) <= _PADDING * whole
        )

    def _kind(self, answer: Answer) -> str:
        """Answers of one kind may share a batch."""
        return "" if self._model.can_mix else answer.request.mode

    def _joined(self, batches: Sequence[Batch]) -> list[Batch]:
        """Batches of one kind made one."""
        apart: list[Batch] = []
        by_kind: dict[str, Padded] = {}
        for batch in batches:
            kind = self._kind(batch.answers[0])
            if not isinstance(batch, Padded):
                apart.append(batch)
            elif kind in by_kind:
                by_kind[kind].join(batch)
                self._changed_rows(by_kind[kind])
            else:
                by_kind[kind] = batch
        return [*by_kind.values(), *apart]

    def _without(self, batches: Sequence[Batch], tickets: Collection[int]) -> list[Batch]:
        """Batches without some answers, and without those that are empty then."""
        left: list[Batch] = []
        for batch in batches:
            rows = [row for row, a in enumerate(batch.answers) if a.ticket not in tickets]
            if not rows:
                continue
            if len(rows) < len(batch.answers):
                batch.keep(rows)
                self._changed_rows(batch)
            left.append(batch)
        return left

    def _changed_rows(self, batch: Batch) -> None:
        """Tell the model which modes a cache's rows are of, as it cannot know of cuts and joins."""
        if isinstance(batch, Padded):
            self._model.filled(batch.cache, batch.modes)
