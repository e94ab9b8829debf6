"""Some items of a task, by the live model: the very numbers that those items have among all."""

import json

import pytest

pytest.importorskip("lm_eval", reason="needs taia[eval]")

import tiny_models
import tiny_tasks
from taia.checkpoint.locate import locate
from taia.evaluation.harness.part import only
from taia.evaluation.harness.running import Running
from taia.evaluation.harness.subject import InMemory, Live
from taia.evaluation.harness.tasks import load_tasks
from taia.evaluation.scores.results import read_results
from taia.evaluation.settings import Settings
from taia.runtime.switchable import SwitchableModel

NAMES = ["tiny_choice", "tiny_words"]
MODES = {"base": "none", "tuned": "all", "half": "0.5*all"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    tiny_models.save_llama(folder / "base")
    tiny_models.lora(tiny_models.llama()).save_pretrained(folder / "tuned")
    tiny_tasks.write(folder / "tasks")
    return folder


@pytest.fixture(scope="module")
def scored(place, tmp_path_factory):
    def run(subject, places=None):
        tasks = load_tasks(NAMES, [place / "tasks"], {}, num_fewshot=0)
        if places is not None:
            tasks = only(tasks, places)
        output = tmp_path_factory.mktemp("run") / "out"
        running = Running(subject, tasks, MODES, Settings(), False, None, lambda *_: None)
        running.evaluate(output, overwrite=False, require=(), command="x")
        return {(one.mode, one.task): one for one in read_results(output)}

    return run


def live(place):
    sides = locate(place / "base"), locate(place / "tuned")
    return Live(sides, SwitchableModel.load(sides[0].path, sides[1].path, {}))


def test_a_part_has_the_scores_that_its_items_have_among_all(place, scored):
    places = {"tiny_choice": [4, 1, 2], "tiny_words": [0]}
    whole, part = scored(InMemory(place / "base", place / "tuned")), scored(live(place), places)
    assert set(part) == set(whole)
    for (mode, task), result in part.items():
        among = whole[mode, task].samples
        assert [s.score for s in result.samples] == [
            among[place].score for place in sorted(places[task])
        ], (mode, task)
        assert result.size == len(places[task])


def test_a_task_without_items_is_left_out(place, scored):
    part = scored(live(place), {"tiny_choice": [], "tiny_words": [1]})
    assert {task for _, task in part} == {"tiny_words"}


def test_other_items_are_another_result(place, scored):
    one, other = (scored(live(place), {"tiny_choice": [at]}) for at in (0, 3))
    key = ("base", "tiny_choice")
    assert one[key].key != other[key].key
    assert json.dumps(one[key].identity["hashes"]) == json.dumps(other[key].identity["hashes"])


def test_a_live_subject_is_the_model_that_it_was_given(place, scored, monkeypatch):
    subject = live(place)
    monkeypatch.setattr(SwitchableModel, "load", lambda *_, **__: pytest.fail("loaded again"))
    scored(subject, {"tiny_choice": [0]})
    assert subject.hashes() == InMemory(place / "base", place / "tuned").hashes()
    subject.methods["half"] = "dare"
    assert subject.hashes()["methods"] == {"half": "dare"}
