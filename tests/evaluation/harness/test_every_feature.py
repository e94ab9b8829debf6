"""lm-evaluation-harness itself says what is right: item by item, aggregate by aggregate."""

import math
from unittest import mock

import pytest

pytest.importorskip("lm_eval", reason="needs taia[eval]")

from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

import harness_tasks
import tiny_models
from harness_tasks import EVERYTHING, GROUPS, TASKS
from taia.errors import InputError
from taia.evaluation.harness.drive import quiet_harness
from taia.evaluation.run import evaluate
from taia.evaluation.scores.results import read_results
from taia.evaluation.settings import Settings

#: How prompts are made: whether in the chat format, and whether examples are turns of it.
FORMS = {"plain": (False, True), "turns": (True, True), "one turn": (True, False)}
#: Of float32 log-probabilities of other batches.
TOLERANCE = 2e-4


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    tiny_models.save_llama(folder / "base")
    harness_tasks.write(folder / "tasks")
    return folder


def ours(place, output, tasks, chat=False, multiturn=True, **more):
    settings = Settings(chat_template=chat, fewshot_as_multiturn=multiturn, **more)
    return evaluate(
        place / "base", tasks=tasks, modes="base", output=output, settings=settings,
        include_path=[place / "tasks"], log_samples=True, batch_size=4,
    )  # fmt: skip


@pytest.fixture(scope="module", params=FORMS)
def both(request, place, tmp_path_factory):
    """What taia found, what it says, and what the harness found."""
    chat, multiturn = FORMS[request.param]
    done = ours(place, tmp_path_factory.mktemp("run") / "run", [EVERYTHING], chat, multiturn)
    with quiet_harness(), mock.patch("lm_eval.evaluator.add_env_info"):
        theirs = simple_evaluate(
            HFLM(str(place / "base"), device="cpu", dtype="float32", batch_size=3),
            tasks=[EVERYTHING],
            task_manager=TaskManager(include_path=str(place / "tasks"), include_defaults=False),
            apply_chat_template=chat,
            fewshot_as_multiturn=multiturn,
            bootstrap_iters=0,
        )
    found = {one.task: one for one in read_results(done.output)}
    assert found.keys() == TASKS.keys()
    return found, done.summary, theirs


def numbers(results):
    return {
        key: value
        for key, value in results.items()
        if "," in key and "stderr" not in key and not isinstance(value, str)
    }


@pytest.mark.parametrize("task", TASKS)
def test_every_aggregate_of_a_task_is_theirs(both, task):
    found, _, theirs = both
    expected = numbers(theirs["results"][task])
    assert expected
    assert found[task].metrics == pytest.approx(expected, rel=TOLERANCE, abs=1e-6, nan_ok=True)
    assert found[task].size == theirs["results"][task]["sample_len"]


@pytest.mark.parametrize("group", [*GROUPS, "inline::within", EVERYTHING])
def test_every_aggregate_of_a_group_is_theirs(both, group):
    _, said, theirs = both
    expected = numbers(theirs["results"][group])
    assert said.groups["base", group] == pytest.approx(expected, rel=TOLERANCE)
    assert bool(expected) == (group not in ("list_only", "nothing_of_it", EVERYTHING))


@pytest.mark.parametrize("task", TASKS)
def test_every_item_is_theirs(both, task):
    """Prompts, answers and scores by the file's first metric, with its first filter."""
    found, _, theirs = both
    result, own = found[task], TASKS[task]
    metric, _, filtered = result.metric.partition(",")
    listed = [one["metric"] for one in own.get("metric_list", ())]
    filters = [one["name"] for one in own.get("filter_list", [{"name": "none"}])]
    assert metric == (listed[0] if listed else metric)
    assert (filtered or "none") == filters[0]
    rows = [r for r in theirs["samples"][task] if r["filter"] == filters[0] and metric in r]
    assert [one.prompt for one in result.samples] == [str(r["arguments"][0][0]) for r in rows]
    if own["output_type"] == "generate_until":
        assert [one.response for one in result.samples] == [r["resps"][0][0] for r in rows]
    better = theirs["higher_is_better"][task][metric]
    assert result.higher_is_better is better
    if result.value is None:
        assert result.scores == pytest.approx([float(r[metric]) for r in rows])
        key = f"{metric},{filters[0]}"
        mean = math.fsum(result.scores) / len(rows)
        assert mean == pytest.approx(theirs["results"][task][key])


def test_what_the_table_shows_is_theirs(both):
    _, said, theirs = both
    for name in said.tasks:
        metric, _, filtered = said.about[name].metric.partition(",")
        expected = theirs["results"][name][f"{metric},{filtered or 'none'}"]
        assert said.score("base", name).value == pytest.approx(expected, rel=TOLERANCE), name


def test_means_are_told_by_the_file(both):
    found, _, _ = both
    whole = {name for name, one in found.items() if one.value is not None}
    assert whole == {
        *("choice_brier", "yes_f1", "yes_mcc", "next_perplexity", "text_words", "text_bits"),
        *("said_bleu", "said_own", "said_typical"),
    }


def test_groups_are_joined_where_their_files_say_so(both):
    _, said, _ = both
    assert said.about["by_size"].parts == ("choice_plain", "choice_some")
    assert "all_the_same" not in said.about
    assert "outer_size" not in said.about, "whose tasks are scored by different metrics"
    assert "list_only" not in said.about
    assert set(said.averaged) <= {*TASKS, "by_size", "inner_size"}


@pytest.mark.parametrize("both", ["plain"], indirect=True)
def test_names_asked_for_together(place, both, tmp_path):
    """A group with one of its tasks, and two groups that share one, which the harness refuses."""
    asked = ["by_size", "choice_plain", "inner_size", "outer_same", "said_plain"]
    done = ours(place, tmp_path / "run", asked)
    again = ours(place, tmp_path / "run", ["yes_f1"]).summary
    assert set(asked) - {"outer_same"} <= set(done.summary.tasks)
    theirs = both[2]["results"]
    for name in ("by_size", "choice_plain", "inner_size"):
        assert done.summary.score("base", name).value == pytest.approx(theirs[name]["acc,none"])
    assert done.summary.averaged == ("by_size", "said_plain")
    assert set(again.tasks) == {*done.summary.tasks, "yes_f1"}, "what was there stays"


def test_a_metric_may_be_chosen(place, tmp_path):
    metrics = {
        "choice_norm_first": "acc",
        "said_filtered": "exact_match,upper",
        "by_size": "acc_norm",
        "choice_some": "acc",
        "said_own": "unlisted",
    }
    asked = ["choice_norm_first", "said_filtered", "by_size", "said_own"]
    done = ours(place, tmp_path / "run", asked, metrics=metrics)
    found = {one.task: one for one in read_results(done.output)}
    assert {name: one.metric for name, one in found.items()} == {
        "choice_norm_first": "acc",
        "said_filtered": "exact_match,upper",
        "choice_plain": "acc_norm",
        "choice_some": "acc",
        "said_own": "unlisted",
    }
    before = found["choice_norm_first"].key
    ours(place, tmp_path / "run", ["choice_norm_first"])
    (other,) = (r for r in read_results(done.output) if r.task == "choice_norm_first")
    assert (other.metric, other.key != before) == ("acc_norm", True)


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({"choice_plain": "f1"}, "f1"),
        ({"choice_plain": "acc,strict"}, "strict"),
        ({"by_size": "bleu"}, "bleu"),
        ({"said_plain": "acc"}, "said_plain"),
    ],
)
def test_a_metric_that_is_not_there_is_told_before_any_work(place, tmp_path, metrics, said):
    with pytest.raises(InputError, match=said):
        ours(place, tmp_path / "run", ["by_size"], metrics=metrics)
    assert not (tmp_path / "run").exists()


def test_a_task_in_two_forms_is_refused(place, tmp_path):
    other = tmp_path / "tasks"
    other.mkdir()
    text = "group: more\ntask:\n  - {task: choice_plain, num_fewshot: 3}\n  - choice_some\n"
    (other / "more.yaml").write_text(text)
    with pytest.raises(InputError, match=r"choice_plain of more .* other settings"):
        evaluate(
            place / "base", tasks=["choice_plain", "more"], modes="base", output=tmp_path / "run",
            include_path=[place / "tasks", other],
        )  # fmt: skip
