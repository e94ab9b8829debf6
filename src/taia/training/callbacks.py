"""What happens beside the steps: progress is told, and a request to stop is heard."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeAlias

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from taia.signals import Interrupted, Stop

#: Told of a piece of work: its name, how much is done, how much there is.
TrainingWatch: TypeAlias = Callable[[str, int, int | None], None]
#: Called with the step just made, the steps there will be, and the loss last written down.
StepProgress: TypeAlias = Callable[[int, int, float | None], None]


class StepTeller(TrainerCallback):
    """Tells of each step."""

    def __init__(self, progress: StepProgress) -> None:
        self._progress = progress
        self._loss: float | None = None

    def on_log(  # noqa: D102
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        if logs and "loss" in logs:
            self._loss = float(logs["loss"])
            self._progress(state.global_step, state.max_steps, self._loss)

    def on_step_end(  # noqa: D102
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        if state.global_step % args.logging_steps:
            self._progress(state.global_step, state.max_steps, self._loss)


class StopOnRequest(TrainerCallback):
    """Saves a checkpoint and ends training after the step in which SIGINT or SIGTERM came.

    In several processes one that heard it is enough, and all of them stop after the same step. A
    second signal interrupts at once.

    Attributes:
        asked: Whether one came.
    """

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear signals for as long as the block runs."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.getsignal(number) for number in numbers}

        stop = Stop(lambda _: Interrupted())

        def hear(number: int, frame: FrameType | None) -> None:
            if self.asked:
                stop(number, frame)
            self.asked = True

        for number in numbers:
            signal.signal(number, hear)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def on_step_end(  # noqa: D102
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        if args.world_size > 1:
            heard = torch.tensor(int(self.asked), device=args.device)
            torch.distributed.all_reduce(heard, torch.distributed.ReduceOp.MAX)
            self.asked = bool(heard.item())
        if self.asked:
            control.should_save = control.should_training_stop = True
