"""From what lm-evaluation-harness reports to items with a score each."""

import math

import pytest

pytest.importorskip("lm_eval", reason="needs taia[eval]")

from lm_eval.api.registry import get_aggregation

from taia.errors import RunError
from taia.evaluation.harness.metric import Metric
from taia.evaluation.harness.scores import read_scores


class Task:
    """As much of a task as scores are read by: how its metrics are aggregated, in its order."""

    def __init__(self, **aggregation):
        self._aggregation = {
            name: get_aggregation(how) if isinstance(how, str) else how
            for name, how in aggregation.items()
        }

    def aggregation(self):
        return self._aggregation


def read(rows, aggregation=None, *, numbers=None, better=None, log=False, asked=None):
    task = Task(**(aggregation or {"acc": "mean"}))
    results = {"alias": "t", "sample_len": len(rows), **(numbers or {})}
    reported = {
        "results": {"t": results},
        "samples": {"t": rows},
        "higher_is_better": {"t": better or {}},
    }
    name, _, filtered = (asked or next(iter(task.aggregation()))).partition(",")
    main = Metric(name, filtered, is_asked=asked is not None)
    return read_scores(reported, "t", task, main, log)


def row(place, doc=None, filtered="none", **metrics):
    return {
        "doc_id": place,
        "doc": doc or {},
        "target": "gold",
        "arguments": [("prompt", {"until": []})],
        "resps": [["said"]],
        "filtered_resps": ["said"],
        "filter": filtered,
        "metrics": list(metrics),
        **metrics,
    }


def test_the_first_metric_of_the_file():
    rows = [row(0, acc=1, acc_norm=0, more=2.5), row(1, acc=0, acc_norm=0, more=1.0)]
    numbers = {"acc,none": 0.5, "acc_norm,none": 0.0, "acc_stderr,none": 0.5, "more,none": 1.75}
    scores = read(rows, {"acc_norm": "mean", "acc": "mean"}, numbers=numbers)
    assert scores.metric == "acc_norm"
    assert [one.score for one in scores.samples] == [0, 0]
    assert [one.scores for one in scores.samples] == [
        {"acc": 1, "more": 2.5},
        {"acc": 0, "more": 1.0},
    ]
    assert set(scores.metrics) == {"acc,none", "acc_norm,none", "more,none"}
    asked = read(rows, {"acc_norm": "mean", "acc": "mean"}, numbers=numbers, asked="acc")
    assert (asked.metric, asked.samples[0].score) == ("acc", 1)
    extra = read(rows, {"acc_norm": "mean", "acc": "mean"}, numbers=numbers, asked="more")
    assert [one.score for one in extra.samples] == [2.5, 1.0]


def test_of_several_filters_the_first_or_the_one_asked_for():
    rows = [
        row(i, filtered=f, exact_match=m) for f, m in (("strict", 0), ("loose", 1)) for i in (0, 1)
    ]
    scores = read(rows, {"exact_match": "mean"})
    assert scores.metric == "exact_match,strict"
    assert [one.score for one in scores.samples] == [0, 0]
    assert read(rows, {"exact_match": "mean"}, asked="exact_match,loose").samples[0].score == 1


def test_lower_is_better_where_the_task_says_so():
    rows = [row(0, asr=True), row(1, asr=False)]
    assert not read(rows, {"asr": "mean"}, better={"asr": False}).higher_is_better
    assert read(rows, {"asr": "mean"}, better={"asr": True}).higher_is_better


def test_a_mean_is_told_by_its_aggregation_and_never_by_its_number():
    """Of one item, or of equal ones, a median or a perplexity may be what a mean would be."""
    rows = [row(place, m=1.0) for place in range(3)]
    for how in ("median", "perplexity", lambda values: sum(values) / len(values)):
        scores = read(rows, {"m": how}, numbers={"m,none": 1.0})
        assert scores.value == 1.0
    assert read(rows, {"m": "mean"}, numbers={"m,none": 1.0}).value is None
    assert read(rows, {"n": "mean"}, numbers={"m,none": 1.0}).metric == "m", "has no aggregation"


def test_a_share_of_none_is_left_out():
    nan = float("nan")
    rows = [row(i, asr=0.0, gibberish=1.0, asr_legible=nan) for i in (0, 1)]
    numbers = {"asr,none": 0.0, "gibberish,none": 1.0, "asr_legible,none": nan}
    scores = read(rows, {"asr": "mean", "asr_legible": "nanmean"}, numbers=numbers)
    assert scores.metrics == {"asr,none": 0.0, "gibberish,none": 1.0}
    assert [one.scores for one in scores.samples] == [{"gibberish": 1.0}] * 2


def test_a_metric_of_all_items_is_drawn():
    rows = [row(place, ppl=(-10.0 * place, 5 + place % 7)) for place in range(120)]
    whole = get_aggregation("weighted_perplexity")
    numbers = {"ppl,none": whole([one["ppl"] for one in rows])}
    scores = read(rows, {"ppl": "weighted_perplexity"}, numbers=numbers, better={"ppl": False})
    assert (scores.metric, scores.higher_is_better) == ("ppl", False)
    assert scores.value == numbers["ppl,none"]
    assert scores.samples[3].score == pytest.approx(math.exp(30 / 8))
    assert len(set(scores.drawn)) > 100
    assert min(scores.drawn) < scores.value < max(scores.drawn)
    other = [one | {"ppl": (one["ppl"][0] - 1.0, one["ppl"][1])} for one in rows]
    again = read(other, {"ppl": "weighted_perplexity"}, numbers={"ppl,none": 1.0})
    assert all(a < b for a, b in zip(scores.drawn, again.drawn, strict=True)), "the same items"
    assert read(rows[:20], {"ppl": "weighted_perplexity"}, numbers=numbers).drawn == ()


def test_what_an_item_has_not_is_left_out_as_the_harness_does():
    rows = [row(0, acc=1), row(1), row(2, acc=0)]
    scores = read(rows)
    assert [(one.id, one.score) for one in scores.samples] == [("0", 1), ("2", 0)]
    assert scores.documents == 3
    some = [row(0, m=1.0), row(1, m=math.nan)]
    assert [one.id for one in read(some, {"m": "nanmean"}).samples] == ["0"]


@pytest.mark.parametrize(
    ("rows", "aggregation", "numbers", "asked", "said"),
    [
        ([row(0, acc="a")], None, {}, None, "item 0"),
        ([row(0, acc=(1, 2))], None, {}, None, "item 0"),
        ([row(0, acc=math.nan)], None, {"acc,none": math.nan}, None, "item 0"),
        ([row(0, m=math.nan)], {"m": "nanmean"}, {}, None, "no item"),
        ([row(0, bleu=("a", "b"))], {"bleu": "bleu"}, {"bleu,none": math.nan}, None, "bleu"),
        ([row(0, acc=1)], None, {"acc,none": 1.0}, "f1", "no metric f1"),
        ([row(0, acc=1)], None, {"acc,none": 1.0}, "acc,loose", "no metric acc"),
        ([row(0)], None, {}, None, "no metric"),
    ],
)
def test_what_is_no_number_is_refused(rows, aggregation, numbers, asked, said):
    with pytest.raises(RunError, match=said) as told:
        read(rows, aggregation, numbers=numbers, asked=asked)
    assert "task t " in told.value.problem


def test_items_have_their_own_ids_and_groups():
    docs = [{"id": "x", "group": "g"}, {"id": "y", "group": 3}]
    rows = [row(i, doc, acc=1) for i, doc in enumerate(docs)]
    scores = read(rows)
    assert [(one.id, one.group) for one in scores.samples] == [("x", "g"), ("y", "")]


@pytest.mark.parametrize("ids", [["x", "x"], ["x", None], [["x"], ["y"]]])
def test_else_items_are_numbered(ids):
    rows = [row(i, {"id": name}, acc=1) for i, name in enumerate(ids)]
    scores = read(rows)
    assert [one.id for one in scores.samples] == ["0", "1"]


def test_prompts_are_kept_only_when_asked_for():
    (kept,), (bare,) = (read([row(0, acc=1)], log=log).samples for log in (True, False))
    assert (kept.prompt, kept.response, kept.gold) == ("prompt", "said", "gold")
    assert (bare.prompt, bare.response, bare.gold) == (None, None, None)


def test_the_response_to_options_is_the_likeliest():
    options = row(0, acc=1)
    options["arguments"] = [("Q", " a"), ("Q", " b"), ("Q", " c")]
    options["resps"] = [[(-3.0, False)], [(-1.0, False)], [(-2.0, True)]]
    options["filtered_resps"] = ["whatever a filter", "makes", "of them"]
    (kept,) = read([options], log=True).samples
    assert (kept.prompt, kept.response) == ("Q", " b")
