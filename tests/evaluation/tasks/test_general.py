"""The default suite through lm-evaluation-harness: no network, no knowledge, no invented mean."""

import json
import math
import re
from collections import Counter
from inspect import signature

import pytest

lm_eval = pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")

from lm_eval.api.model import LM  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

from instruction_answers import answer_to  # noqa: E402
from taia import evaluate  # noqa: E402
from taia.evaluation.scores.resampling import FEWEST  # noqa: E402
from taia.evaluation.tasks import DEFAULT, FOLDER  # noqa: E402
from taia.evaluation.tasks.registry import find, load_task, paper_tasks  # noqa: E402

INSTRUCTIONS = {item.prompt: json.loads(item.gold) for item in load_task("instructions")}


class Obedient(LM):
    """Keeps every rule but that of one prompt in two; gives every byte of a text the same."""

    def __init__(self):
        super().__init__()
        self.rated, self.asked = [], []

    def generate_until(self, requests, disable_tqdm=False):
        self.asked += [one.args for one in requests]
        return [self.say(one.args[0]) for one in requests]

    def say(self, prompt):
        if prompt not in INSTRUCTIONS:
            return "I cannot help with that."
        keeps = list(INSTRUCTIONS).index(prompt) % 2 == 0
        return answer_to(INSTRUCTIONS[prompt]) if keeps else ""

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        self.rated += [one.args for one in requests]
        return [-0.5 * len(one.args[0].encode()) for one in requests]

    def loglikelihood(self, requests, disable_tqdm=False):
        raise NotImplementedError


@pytest.fixture(scope="module")
def run():
    model = Obedient()
    manager = TaskManager(include_path=str(FOLDER), include_defaults=False)
    tasks = ["general"]
    found = lm_eval.simple_evaluate(model, tasks=tasks, task_manager=manager, bootstrap_iters=0)
    return found, model


def test_instructions_are_scored_by_prompt_and_by_rule(run):
    found, model = run
    scores = found["results"]["instructions"]
    even = list(INSTRUCTIONS.values())[::2]
    share = sum(map(len, even)) / sum(map(len, INSTRUCTIONS.values()))
    for reading in ("strict", "loose"):
        assert scores[f"prompt_level_{reading}_acc,none"] == 0.5
        assert scores[f"inst_level_{reading}_acc,none"] == pytest.approx(share)
    generation = {"until": [], "do_sample": False, "temperature": 0.0, "max_gen_toks": 256}
    assert {prompt: how for prompt, how in model.asked if prompt in INSTRUCTIONS} == dict.fromkeys(
        INSTRUCTIONS, generation
    )


def test_texts_are_rated_whole_and_pooled_by_their_bytes(run):
    found, model = run
    scores = found["results"]["text_loss"]
    assert scores["bits_per_byte,none"] == pytest.approx(0.5 / math.log(2))
    assert scores["byte_perplexity,none"] == pytest.approx(math.exp(0.5))
    assert [text for (text,) in model.rated] == [item.prompt for item in load_task("text_loss")]


def test_no_score_of_all_is_invented(run):
    found, _ = run
    assert found["group_subtasks"] == {"general": ["instructions", "text_loss", "lookalikes"]}
    assert found["results"]["lookalikes"]["over_refusal,none"] == 1
    assert not [name for name in found["results"].get("general", {}) if "," in name]
    assert "general" not in found.get("groups", {}) or not [
        name for name in found["groups"]["general"] if "," in name
    ]


def test_the_main_metrics_stand_first():
    manager = TaskManager(include_path=str(FOLDER), include_defaults=False)
    tasks = manager.load(["general"])["tasks"]
    main = {name: task.config.metric_list[0] for name, task in tasks.items()}
    assert {name: (one["metric"], one["higher_is_better"]) for name, one in main.items()} == {
        "instructions": ("prompt_level_strict_acc", True),
        "text_loss": ("bits_per_byte", False),
        "lookalikes": ("over_refusal", False),
    }


def test_the_default_is_this_suite_and_needs_no_network():
    assert signature(evaluate).parameters["tasks"].default == (DEFAULT,)
    assert all(find(name).is_shipped for name in paper_tasks([DEFAULT]))


def test_the_texts_are_of_eight_kinds_and_of_some_length():
    items = load_task("text_loss")
    kinds = Counter(item.group for item in items)
    assert len(kinds) == 8
    assert set(kinds.values()) == {13}
    assert len({item.prompt for item in items}) == len({item.id for item in items}) == 104
    assert len(items) >= FEWEST  # so that their loss has an interval
    assert len({item.group for item in items[:8]}) == 8
    assert all(len(item.prompt.encode()) > 150 for item in items)


def test_the_default_asks_some_instructions_of_every_kind_and_says_so():
    some, whole = load_task("instructions_quick"), load_task("instructions")
    assert [(item.id, item.prompt, item.gold) for item in some] == [
        (item.id, item.prompt, item.gold) for item in whole[: len(some)]
    ]
    assert {item.group for item in some} == {item.group for item in whole}
    assert len(load_task("instructions_quick", limit=5)) == 5
    manager = TaskManager(include_path=str(FOLDER), include_defaults=False)
    tasks = manager.load([DEFAULT])["tasks"]
    assert list(tasks) == ["instructions_quick", "text_loss", "lookalikes"]
    config = tasks["instructions_quick"].config
    told = config.metadata["left_out"]["told"]
    for number in (len(some), len(whole), config.generation_kwargs["max_gen_toks"]):
        assert re.search(rf"\b{number}\b", told)
    assert "--tasks general" in told
    assert config.metadata["left_out"]["of"] == "instructions"


def test_the_default_costs_less_than_half_of_the_whole():
    """At most so many tokens are written in a mode: what a model that never ends would cost."""
    manager = TaskManager(include_path=str(FOLDER), include_defaults=False)

    def most(group):
        tasks = manager.load([group])["tasks"].values()
        return sum(
            len(task.test_docs()) * task.config.generation_kwargs["max_gen_toks"]
            for task in tasks
            if task.OUTPUT_TYPE == "generate_until"
        )

    assert most(DEFAULT) < 20_000
    assert most("general") > 2 * most(DEFAULT)
