"""lm-evaluation-harness driven: one task, one mode at a time."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from taia.errors import InputError, RunError, TaiaError, out_of_memory
from taia.evaluation.harness.scores import Scores, read_scores
from taia.loading.quiet import quiet

if TYPE_CHECKING:
    from taia.evaluation.harness.model import ModesLM
    from taia.evaluation.harness.tasks import LmTask


def run(
    lm: ModesLM,
    name: str,
    task: LmTask,
    *,
    limit: int | None,
    chat: bool,
    seed: int,
    log: bool,
) -> Scores:
    """Evaluate a task in the model's mode.

    Args:
        lm: The model, in the mode.
        name: The task's name.
        task: The task.
        limit: At most so many items.
        chat: Whether prompts are in the chat format, examples as turns of it.
        seed: Of the examples shown.
        log: Whether items keep prompts and responses.

    Raises:
        RunError: If the model or the task's scoring fails.
    """
    from lm_eval import evaluate

    prepare(lm, task, seed)
    try:
        found = evaluate(
            lm,
            {"tasks": {name: task}},
            limit=limit,
            bootstrap_iters=0,
            apply_chat_template=chat,
            fewshot_as_multiturn=chat,
        )
    except TaiaError:
        raise
    except Exception as error:  # a task's functions raise what they like
        if out_of_memory(error):
            raise RunError(
                f"The task {name} needs more memory than there is.", "Try a smaller --batch-size."
            ) from error
        raise RunError(
            f"The task {name} failed in mode {lm.mode}: {type(error).__name__}: {error}.",
            "Check its file and its data; results of other tasks are kept.",
        ) from error
    return read_scores(found, name, log)


def requests(
    lm: ModesLM,
    name: str,
    task: LmTask,
    *,
    limit: int | None,
    chat: bool,
    seed: int,
) -> Sequence[Any]:
    """The requests that a task will make.

    Raises:
        InputError: If the task cannot make them of its data.
    """
    prepare(lm, task, seed)
    try:
        task.build_all_requests(
            limit=limit,
            apply_chat_template=chat,
            fewshot_as_multiturn=chat,
            chat_template=lm.apply_chat_template if chat else None,
            tokenizer_name=lm.tokenizer_name if chat else "",
        )
    except TaiaError:
        raise
    except Exception as error:  # a task's functions raise what they like
        raise InputError(
            f"The task {name} cannot make its prompts: {type(error).__name__}: {error}.",
            "Check its file and its data.",
        ) from error
    made: Sequence[Any] = task.instances
    return made


def prepare(lm: ModesLM, task: LmTask, seed: int) -> None:
    """Give every mode the same examples, and prompts for the kind of request that will follow."""
    import numpy as np

    random.seed(seed)
    np.random.seed(seed)
    task.set_fewshot_seed(seed=seed)
    lm.for_generation = task.OUTPUT_TYPE == "generate_until"


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
