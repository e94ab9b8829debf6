"""Every mode against lm-evaluation-harness's own model, over the same weights from disk."""

import math
import re
from unittest import mock

import pytest

pytest.importorskip("lm_eval", reason="needs taia[eval]")

from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

import tiny_models
import tiny_tasks
from taia.checkpoint.compose import compose
from taia.checkpoint.locate import Located
from taia.evaluation.harness.drive import quiet_harness
from taia.evaluation.harness.model import ModesLM
from taia.evaluation.harness.subject import InMemory
from taia.evaluation.run import evaluate
from taia.evaluation.scores.results import read_results
from taia.evaluation.settings import Settings
from taia.selection import MODES

ORDER = ("base", "tuned", "taia", "taif")
#: Largest difference of float32 log-probabilities; rows of other lengths round otherwise.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A base, an adapter of it, and of every mode an adapter that PEFT loads."""
    folder = tmp_path_factory.mktemp("models")
    tiny_models.save_llama(folder / "base", max_position_embeddings=96)
    tuned = tiny_models.lora(tiny_models.llama(max_position_embeddings=96))
    tuned.save_pretrained(folder / "tuned")
    base, adapter = Located("base", folder / "base"), Located("tuned", folder / "tuned")
    for mode in ("taia", "taif"):
        compose(base, adapter, folder / mode, mode)
    tiny_tasks.write(folder / "tasks")
    return folder


def theirs(place, mode):
    adapter = None if mode == "base" else str(place / mode)
    with quiet_harness():
        return HFLM(str(place / "base"), peft=adapter, device="cpu", dtype="float32", batch_size=3)


@pytest.fixture(scope="module", params=[True, False], ids=["chat", "plain"])
def both(request, place, tmp_path_factory):
    """Ours in one run, and theirs in four."""
    ours = evaluate(
        place / "base",
        place / "tuned",
        tasks=tiny_tasks.NAMES,
        output=tmp_path_factory.mktemp("runs") / "run",
        settings=Settings(chat_template=request.param),
        include_path=[place / "tasks"],
        batch_size=5,
        log_samples=True,
    )
    # What torch says of the machine takes seconds and is no score.
    with quiet_harness(), mock.patch("lm_eval.evaluator.add_env_info"):
        manager = TaskManager(include_path=str(place / "tasks"), include_defaults=False)
        reference = {
            mode: simple_evaluate(
                theirs(place, mode),
                tasks=list(tiny_tasks.NAMES),
                task_manager=manager,
                apply_chat_template=request.param,
                fewshot_as_multiturn=request.param,
                bootstrap_iters=0,
            )
            for mode in ORDER
        }
    found = read_results(ours.output)
    return {(one.mode, one.task): one for one in found}, reference


@pytest.mark.parametrize("task", tiny_tasks.NAMES)
def test_every_metric_is_theirs(both, task):
    ours, reference = both
    for mode in ORDER:
        numbers = {
            key: value
            for key, value in reference[mode]["results"][task].items()
            if "," in key and "stderr" not in key
        }
        assert ours[mode, task].metrics == pytest.approx(numbers, rel=TOLERANCE)
        assert numbers


@pytest.mark.parametrize(
    ("task", "filtered", "metric"),
    [
        ("tiny_choice", "none", "acc"),
        ("tiny_words", "whole", "exact_match"),
    ],
)
def test_every_item_is_theirs(both, task, filtered, metric):
    ours, reference = both
    for mode in ORDER:
        rows = [row for row in reference[mode]["samples"][task] if row["filter"] == filtered]
        assert [one.score for one in ours[mode, task].samples] == [row[metric] for row in rows]
        assert [one.prompt for one in ours[mode, task].samples] == [
            row["arguments"][0][0] for row in rows
        ]
        assert [one.id for one in ours[mode, task].samples] == [
            row["id"] for row in tiny_tasks.ROWS
        ]


def test_an_item_s_further_metrics_are_theirs(both):
    ours, reference = both
    for mode in ORDER:
        rows = reference[mode]["samples"]["tiny_next"]
        assert ours[mode, "tiny_next"].metric == "perplexity", "the first in its file"
        assert [one.scores["acc"] for one in ours[mode, "tiny_next"].samples] == [
            row["acc"] for row in rows
        ]


def test_every_generation_is_theirs(both):
    ours, reference = both
    said = {}
    for mode in ORDER:
        rows = [r for r in reference[mode]["samples"]["tiny_words"] if r["filter"] == "whole"]
        said[mode] = [row["resps"][0][0] for row in rows]
        assert [one.response for one in ours[mode, "tiny_words"].samples] == said[mode]
    assert len({tuple(texts) for texts in said.values()}) == len(ORDER), "the modes say the same"


def test_the_score_of_a_text_is_of_all_its_words(both):
    ours, reference = both
    result = ours["taia", "tiny_text"]
    assert (result.metric, result.higher_is_better) == ("word_perplexity", False)
    theirs = reference["taia"]["results"]["tiny_text"]["word_perplexity,none"]
    assert result.value == pytest.approx(theirs, rel=TOLERANCE)
    words = [len(re.split(r"\s+", row["text"])) for row in tiny_tasks.ROWS]
    nats = sum(math.log(score) * size for score, size in zip(result.scores, words, strict=True))
    assert math.exp(nats / sum(words)) == pytest.approx(result.value, rel=1e-6)


@pytest.mark.parametrize("mode", ORDER)
def test_every_likelihood_is_theirs(place, mode):
    """Contexts that are empty, end in a space, are shared, or are longer than the model reads."""
    pairs = [
        ("", "cat"),
        ("What is it? ", "a cat"),
        ("What is it?", " a cat"),
        ("What is it?", " dog"),
        ("What is it?", " "),
        ("x" * 300, " too long"),
        ("y" * 90, "z" * 20),
    ]
    asked = [Instance("loglikelihood", {}, pair, 0) for pair in pairs]
    reference = theirs(place, mode)
    with quiet_harness():
        expected = reference.loglikelihood(asked)
    lm = model(place)
    lm.mode = mode
    found = lm.loglikelihood(asked)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    assert [value for value, _ in found] == pytest.approx([v for v, _ in expected], abs=TOLERANCE)


def test_rolling_windows_are_theirs(place):
    texts = ["short", "a longer text of several windows, " * 9, "x" * 96, "y" * 97]
    asked = [Instance("loglikelihood_rolling", {}, (text,), 0) for text in texts]
    lm = model(place)
    lm.mode = "taia"
    reference = theirs(place, "taia")
    with quiet_harness():
        expected = reference.loglikelihood_rolling(asked)
    assert lm.loglikelihood_rolling(asked) == pytest.approx(expected, abs=5 * TOLERANCE)


def test_long_prompts_are_cut_as_theirs(place):
    kwargs = {"until": ["e"], "max_gen_toks": 10}
    asked = [Instance("generate_until", {}, (text, dict(kwargs)), 0) for text in ("q" * 200, "r")]
    lm = model(place)
    lm.mode = "tuned"
    reference = theirs(place, "tuned")
    with quiet_harness():
        expected = reference.generate_until(asked)
    assert lm.generate_until(asked) == expected


def model(place) -> ModesLM:
    subject = InMemory(place / "base", place / "tuned")
    modes = {mode: MODES[mode] for mode in ORDER}
    return ModesLM(subject.backend(modes, lambda *_: None), lambda *_: None)
