"""Tasks of taia's own, for lm-evaluation-harness: the paper's, safety's, and the default suite's.

A task is two files here, a YAML file of lm-evaluation-harness and a module of the same name, which
declares where its rows come from and what it asks; :mod:`taia.evaluation.tasks.registry` finds
them. ``taia`` is the group of the paper's seven, whose ``acc`` is the paper's average; the tag
``taia_safety`` is both tasks of safety; :data:`DEFAULT` is what is asked unless told otherwise. All
are listed in docs/tasks.md. A group goes together with one of its tasks: what is in both counts
once in an average.

**How to run them**::

    manager = TaskManager(include_path=str(tasks.FOLDER), metadata={
        "data_dir": "/path/to/files",   # absent or None: from the hub
        "protocol": "taia",             # or "authors": how answers are matched
        "hub": {TASK: "org/name@revision"},  # optional: other data sets on the hub
    })
    simple_evaluate(model, tasks=["taia"], task_manager=manager, apply_chat_template=True,
                    limit=100, log_samples=True)

All three keys are optional, and must be JSON values. ``limit`` is lm-evaluation-harness's own, not
a key: items stand in the order of :func:`taia.evaluation.tasks.registry.load_task`, from the groups
in turn, so that the first 100 are a few of each. Building the tasks reads the data: errors of
:mod:`taia.errors` come from there as they are.

**What a sample holds** (``results["samples"][task]``): ``doc["id"]``, ``doc["group"]`` (BBH's
subtask, MMLU's subject; or nothing), ``doc["prompt"]``, ``doc["gold"]``; the response is
``filtered_resps[0]``; the metrics stand beside them by name.

**The main metric** is the first of ``task.config.metric_list``, with its ``higher_is_better``: of
the paper's tasks ``acc``, of safety's ``asr`` and ``over_refusal``, which are better when lower.
These two have further ones: ``gibberish``; ``…_legible``, of the answers that are not gibberish (of
those it is no number); ``…_start`` and ``…_anywhere``, by the paper's phrases. By the protocol
``authors`` the main one is the paper's, ``…_anywhere``. All are 1 or 0 an item. Answers to harmful
prompts are kept on disk only where they are asked for.

**A judge**, where there is one, comes after the generations::

    judged = judge.ask(Judge.at(url, model), [(prompt, response) for each sample])

``judged.verdicts`` stand in the samples' order (``asr_judge`` is 1 or 0 an item, and absent where
the verdict is None), ``judged.success`` is the rate, ``judged.missing`` is to be shown beside it.

**Beyond lm-evaluation-harness**, the model class must understand these of the
``generation_kwargs``: ``letters`` and ``letter_bias`` (one token, the bias added to the letters'
logits) and ``second_stage`` (the answer is gone on with after "The answer is").
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

#: For ``TaskManager(include_path=…)``.
FOLDER: Final = Path(__file__).parent

#: The group that is evaluated unless tasks are named: more than knowledge, and no network, and on a
#: CPU minutes for a small model.
DEFAULT: Final = "quick"
