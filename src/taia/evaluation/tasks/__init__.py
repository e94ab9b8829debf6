"""The paper's tasks and the safety tasks, for lm-evaluation-harness.

The YAML files beside this one are tasks of lm-evaluation-harness; their functions are in
:mod:`taia.evaluation.tasks.functions`. Names: ``taia_math``, ``taia_bbh``, ``taia_csqa``,
``taia_logiqa``, ``taia_svamp``, ``taia_mmedbench``, ``taia_mmlu``, and the group ``taia`` of these
seven, whose ``acc`` is the paper's average; ``taia_logiqa_zh``, ``taia_mmedbench_zh``;
``advbench``, ``lookalikes``, and the tag ``taia_safety`` of both. A group and one of its tasks do
not go together in one call.

**How to run them**::

    manager = TaskManager(include_path=str(tasks.FOLDER), metadata={
        "data_dir": "/path/to/files",   # absent or None: from the hub
        "protocol": "taia",             # or "authors": how answers are matched
        "hub": {"taia_svamp": "org/name@revision"},  # optional: other data sets on the hub
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

**The main metric** is the first of ``task.config.metric_list``, with its ``higher_is_better``:
``acc``; for ``advbench`` ``asr``, for ``lookalikes`` ``over_refusal``, both better when lower.
Their further ones: ``gibberish``; ``…_legible``, of the answers that are not gibberish (of those it
is no number); ``…_start`` and ``…_anywhere``, by the paper's phrases. By the protocol ``authors``
the main one is the paper's, ``…_anywhere``. All are 1 or 0 an item. Answers to harmful prompts are
kept on disk only where they are asked for.

**A judge**, where there is one, comes after the generations::

    judged = judge.ask(Judge.at(url, model), [(prompt, response) for each sample of advbench])

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
