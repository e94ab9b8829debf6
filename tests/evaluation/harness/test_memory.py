"""Where memory runs out, memory is named: whoever says so, and wherever."""

import builtins
import errno
import os

import numpy as np
import pytest

pytest.importorskip("lm_eval", reason="needs taia[eval]")

import torch
from transformers import LlamaForCausalLM

import tiny_models
import tiny_tasks
from taia.errors import InputError, RunError, TaiaError
from taia.evaluation.run import evaluate
from taia.evaluation.settings import Settings


def wrapped(error):
    try:
        raise ValueError("An error occurred while generating the dataset") from error
    except ValueError as outer:
        return outer


def of_numpy():
    try:
        np.zeros(2**50)
    except MemoryError as error:
        return error


def of_torch():
    try:
        torch.zeros(2**50)
    except RuntimeError as error:
        return error


#: As Python, NumPy, torch on a processor and on an accelerator, the system and a wrapper say it.
ERRORS = {
    "python": MemoryError(),
    "numpy": of_numpy(),
    "torch": of_torch(),
    "accelerator": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    "system": OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    "c++": RuntimeError("std::bad_alloc"),
    "cublas": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
    "wrapped": wrapped(MemoryError()),
    "wrapped twice": wrapped(wrapped(of_torch())),
}
#: Where in a task's file a function stands that may be the one.
PLACES = {
    "process_docs": ("tiny_choice", "process_docs: !function own.fail\n"),
    "doc_to_text": ("tiny_choice", "doc_to_text: !function own.fail\n"),
    "process_results": ("tiny_words", "process_results: !function own.fail\n"),
    "aggregation": (
        "tiny_words",
        "metric_list: [{metric: exact_match, aggregation: !function own.fail}]\n",
    ),
    "filter": (
        "tiny_words",
        "filter_list: [{name: x, filter: [{function: custom, filter_fn: !function own.fail}]}]\n",
    ),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_models.save_llama(tmp_path_factory.mktemp("base"))


@pytest.fixture
def run(base, tmp_path):
    folder = tiny_tasks.write(tmp_path / "tasks")

    def made(task, more=""):
        (folder / "own.py").write_text("def fail(*_):\n    raise the_error\n")
        (folder / "lacking.py").write_text("def results(*_):\n    import nowhere_at_all\n")
        file = folder / f"{task}.yaml"
        key = more.partition(":")[0]
        kept = [line for line in file.read_text().splitlines() if not line.startswith(f"{key}:")]
        if more:
            kept = [line for line in kept if not line.startswith("  - {name")]
            file.write_text("\n".join(kept) + "\n" + more)
        evaluate(
            base, tasks=[task], modes="base", output=tmp_path / "run", include_path=[folder],
            settings=Settings(limit=2),
        )  # fmt: skip

    return made


@pytest.mark.parametrize(
    ("task", "kind"),
    [("tiny_choice", "torch"), ("tiny_next", "numpy"), ("tiny_text", "wrapped")]
    + [("tiny_words", kind) for kind in ERRORS],
)
def test_the_model_s_memory_is_named(run, tmp_path, monkeypatch, task, kind):
    def full(*_, **__):
        raise ERRORS[kind]

    monkeypatch.setattr(LlamaForCausalLM, "forward", full)
    with pytest.raises(RunError, match=f"{task} needs more memory") as told:
        run(task)
    assert "batch" in told.value.mend
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("place", "kind"),
    [(place, "wrapped twice") for place in PLACES] + [("process_docs", kind) for kind in ERRORS],
)
def test_memory_that_a_task_s_functions_fill_is_named(run, monkeypatch, place, kind):
    monkeypatch.setattr(builtins, "the_error", ERRORS[kind], raising=False)
    task, more = PLACES[place]
    with pytest.raises(RunError, match=f"{task} .*more memory"):
        run(task, more)


@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_lack_of_memory_is_told_as_it_is(run, monkeypatch, place):
    monkeypatch.setattr(builtins, "the_error", KeyError("memory"), raising=False)
    task, more = PLACES[place]
    with pytest.raises(TaiaError) as told:
        run(task, more)
    assert task in told.value.problem
    assert "more memory" not in told.value.problem
    assert isinstance(told.value, InputError | RunError)


def test_a_package_that_a_task_needs_is_named(run):
    task, more = PLACES["process_results"]
    with pytest.raises(InputError, match="nowhere_at_all"):
        run(task, more.replace("own.fail", "lacking.results"))
