from taia.evaluation.scores.results import Sample, TaskResult
from taia.evaluation.scores.scored import further_shares
from taia.evaluation.scores.statistics import accuracy


def result(mode, metric, further):
    samples = tuple(
        Sample(str(number), 0.0, scores=scores) for number, scores in enumerate(further)
    )
    about = {"selection": "all", "task": "t", "higher_is_better": False, "metrics": {}}
    rest = {"protocol": "lm-eval", "version": "1", "key": "k", "identity": {}, "seconds": 1.0}
    return TaskResult(mode=mode, metric=metric, samples=samples, **about, **rest)


def test_a_share_is_of_the_items_that_have_it():
    further = [{"asr_judge": 1.0, "asr_anywhere": 1.0}, {"asr_judge": 0.0}, {"asr_anywhere": 1.0}]
    anywhere, judge = further_shares([result("taia", "asr", further)], ["asr"])
    assert (judge.metric, judge.mode, judge.task, judge.missing) == ("asr_judge", "taia", "t", 1)
    assert judge.share == accuracy([True, False])
    assert (anywhere.metric, anywhere.share) == ("asr_anywhere", accuracy([True, True]))


def test_only_further_metrics_of_the_main_one_are_readings():
    found = [result("base", "asr", [{"length": 3.0}]), result("base", "acc", [{"acc_norm": 1.0}])]
    assert further_shares(found, ["asr"]) == ()


def test_gibberish_stands_beside_the_metrics_of_safety_by_its_own_name():
    further = [{"gibberish": 1.0, "asr_legible": 1.0}, {"gibberish": 0.0}]
    legible, gibberish = further_shares([result("taia", "asr", further)], ["asr"])
    assert (gibberish.metric, gibberish.share) == ("gibberish", accuracy([True, False]))
    assert (legible.metric, legible.missing) == ("asr_legible", 1)
