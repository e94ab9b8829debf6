"""lm-evaluation-harness driven: one task, one mode at a time."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taia.errors import InputError, RunError, TaiaError, blaming, first_line
from taia.evaluation.harness.scores import Scores, read_scores
from taia.loading.quiet import quiet

if TYPE_CHECKING:
    from taia.evaluation.harness.metric import Metric
    from taia.evaluation.harness.model import ModesLM
    from taia.evaluation.harness.tasks import LmTask


@dataclass(frozen=True, slots=True)
class Asking:
    """How tasks are asked.

    Attributes:
        limit: At most so many items.
        chat: Whether prompts are in the chat format.
        multiturn: Whether examples are turns of it.
        seed: Of the examples shown.
    """

    limit: int | None
    chat: bool
    multiturn: bool
    seed: int


class Prepared:
    """A task whose requests are made, once for all modes. Else it is the task itself.

    Attributes:
        name: The task's name.
        task: The task.

    Args:
        lm: The model, which formats prompts.
        name: The task's name.
        task: The task.
        asking: How it is asked.

    Raises:
        InputError: If the task cannot make its requests of its data.
        RunError: If memory runs out.
    """

    def __init__(self, lm: ModesLM, name: str, task: LmTask, asking: Asking) -> None:
        import numpy as np

        self.name, self.task = name, task
        # Every run gets the same examples.
        random.seed(asking.seed)
        np.random.seed(asking.seed)
        task.set_fewshot_seed(seed=asking.seed)
        lm.for_generation = task.OUTPUT_TYPE == "generate_until"
        with blamed(
            name, InputError, f"The task {name} cannot make its prompts", "Check its file and data."
        ):
            task.build_all_requests(
                limit=asking.limit,
                apply_chat_template=asking.chat,
                fewshot_as_multiturn=asking.multiturn,
                chat_template=lm.apply_chat_template if asking.chat else None,
                tokenizer_name=lm.tokenizer_name if asking.chat else "",
            )

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - a task has no types
        return getattr(self.task, name)

    def build_all_requests(self, **_: object) -> None:
        """Nothing is left to make; what another mode answered goes."""
        for request in self.task.instances:
            request.resps, request.filtered_resps = [], {}


def run(lm: ModesLM, task: Prepared, asking: Asking, main: Metric, *, log: bool) -> Scores:
    """Evaluate a task in the model's mode.

    Args:
        lm: The model, in the mode.
        task: The task.
        asking: How it is asked, as when it was prepared.
        main: The metric that counts.
        log: Whether items keep prompts and responses.

    Raises:
        RunError: If the model or the task's scoring fails.
    """
    from lm_eval import evaluate

    name = task.name
    with blamed(
        name,
        RunError,
        f"The task {name} failed in mode {lm.mode}",
        "Check its file and its data; results of other tasks are kept.",
    ):
        found = evaluate(
            lm,
            {"tasks": {name: task}},
            limit=asking.limit,
            bootstrap_iters=0,
            apply_chat_template=asking.chat,
            fewshot_as_multiturn=asking.multiturn,
        )
        return read_scores(found, name, task.task, main, log)


@contextmanager
def blamed(name: str, kind: type[TaiaError], problem: str, mend: str) -> Iterator[None]:
    """Whatever a task's functions raise inside, as an error of a kind; memory by its name.

    Raises:
        RunError: If memory runs out, whoever says so.
        InputError: If a package is missing.
        TaiaError: Of the kind, if anything else is raised.
    """

    def telling(error: BaseException) -> str:
        return f"{type(error).__name__}: {first_line(error)}"

    try:
        with blaming(kind, problem, mend, telling=telling):
            yield
    except ModuleNotFoundError as error:
        raise InputError(
            f"The task {name} needs a package that is not here: {first_line(error)}.",
            "Install it, or leave the task out.",
        ) from error
    except MemoryError as error:
        raise RunError(
            f"The task {name} needs more memory than there is.",
            "Try a smaller --batch-size, or a machine with more; results so far are kept.",
        ) from error


@contextmanager
def quiet_harness() -> Iterator[None]:
    """Keep its log, and those of the libraries it uses, off the terminal for a while.

    Its bars heed ``TQDM_DISABLE``, which tqdm reads when it is imported: the command line sets it.
    """
    names = ("lm_eval", "httpx", "datasets", "huggingface_hub")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    with quiet():
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
