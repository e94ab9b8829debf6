"""From what lm-evaluation-harness reports to items with a score each."""

import pytest

from taia.errors import InputError
from taia.evaluation.harness.scores import read_scores


def found(numbers, rows, better=None):
    return {
        "results": {"t": {"alias": "t", "sample_len": len(rows), **numbers}},
        "samples": {"t": rows},
        "higher_is_better": {"t": better or {}},
    }


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


def test_the_first_metric_that_is_a_mean():
    rows = [row(0, perplexity=-1.0, acc=1), row(1, perplexity=-3.0, acc=0)]
    numbers = {"perplexity,none": 7.389, "acc,none": 0.5, "acc_stderr,none": 0.5}
    scores = read_scores(found(numbers, rows, {"perplexity": False, "acc": True}), "t", False)
    assert (scores.metric, scores.higher_is_better) == ("acc", True)
    assert [one.score for one in scores.samples] == [1, 0]
    assert [one.scores for one in scores.samples] == [{"perplexity": -1.0}, {"perplexity": -3.0}]
    assert scores.metrics == {"perplexity,none": 7.389, "acc,none": 0.5}


def test_of_several_filters_the_first_that_is_scored():
    rows = [
        row(i, filtered=f, exact_match=m) for f, m in (("strict", 0), ("loose", 1)) for i in (0, 1)
    ]
    numbers = {"exact_match,strict": 0.0, "exact_match,loose": 1.0}
    scores = read_scores(found(numbers, rows), "t", False)
    assert scores.metric == "exact_match,strict"
    assert [one.score for one in scores.samples] == [0, 0]


def test_lower_is_better_where_the_task_says_so():
    rows = [row(0, asr=True), row(1, asr=False)]
    scores = read_scores(found({"asr,none": 0.5}, rows, {"asr": False}), "t", False)
    assert not scores.higher_is_better


def test_a_share_of_none_is_left_out():
    nan = float("nan")
    rows = [row(i, asr=0.0, gibberish=1.0, asr_legible=nan) for i in (0, 1)]
    numbers = {"asr,none": 0.0, "gibberish,none": 1.0, "asr_legible,none": nan}
    scores = read_scores(found(numbers, rows), "t", False)
    assert scores.metrics == {"asr,none": 0.0, "gibberish,none": 1.0}
    assert [one.scores for one in scores.samples] == [{"gibberish": 1.0}] * 2


def test_texts_are_scored_per_unit():
    rows = [row(0, word_perplexity=(-10.0, 5)), row(1, word_perplexity=(-6.0, 1))]
    scores = read_scores(found({"word_perplexity,none": 3.0}, rows), "t", False)
    assert (scores.metric, scores.higher_is_better) == ("nats_per_word", False)
    assert [one.score for one in scores.samples] == [2.0, 6.0]


def test_what_is_scored_only_all_together_is_refused():
    rows = [row(0, bleu=("a", "b")), row(1, bleu=("a", "c"))]
    with pytest.raises(InputError, match="bleu"):
        read_scores(found({"bleu,none": 12.0}, rows), "t", False)


def test_items_have_their_own_ids_and_groups():
    docs = [{"id": "x", "group": "g"}, {"id": "y", "group": 3}]
    rows = [row(i, doc, acc=1) for i, doc in enumerate(docs)]
    scores = read_scores(found({"acc,none": 1.0}, rows), "t", False)
    assert [(one.id, one.group) for one in scores.samples] == [("x", "g"), ("y", "")]


@pytest.mark.parametrize("ids", [["x", "x"], ["x", None], [["x"], ["y"]]])
def test_else_items_are_numbered(ids):
    rows = [row(i, {"id": name}, acc=1) for i, name in enumerate(ids)]
    scores = read_scores(found({"acc,none": 1.0}, rows), "t", False)
    assert [one.id for one in scores.samples] == ["0", "1"]


def test_prompts_are_kept_only_when_asked_for():
    plain = found({"acc,none": 1.0}, [row(0, acc=1)])
    (kept,), (bare,) = (read_scores(plain, "t", log).samples for log in (True, False))
    assert (kept.prompt, kept.response, kept.gold) == ("prompt", "said", "gold")
    assert (bare.prompt, bare.response, bare.gold) == (None, None, None)


def test_the_response_to_options_is_the_likeliest():
    options = row(0, acc=1)
    options["arguments"] = [("Q", " a"), ("Q", " b"), ("Q", " c")]
    options["filtered_resps"] = [(-3.0, False), (-1.0, False), (-2.0, True)]
    (kept,) = read_scores(found({"acc,none": 1.0}, [options]), "t", True).samples
    assert (kept.prompt, kept.response) == ("Q", " b")
