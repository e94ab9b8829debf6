"""Whole texts: pooled as lm-evaluation-harness pools them, begun once, compared by documents."""

import json
import math
import random

import numpy as np
import pytest

pytest.importorskip("lm_eval", reason="needs taia[eval]")

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers.processors import TemplateProcessing

import tiny_models
from taia.evaluation.harness.drive import quiet_harness
from taia.evaluation.harness.model import ModesLM
from taia.evaluation.harness.subject import InMemory
from taia.evaluation.run import evaluate
from taia.evaluation.scores.results import read_results
from taia.evaluation.settings import Settings

DOCUMENTS = 110
TASK = """task: texts
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/test.json}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list: [{{metric: {metric}}}]
metadata: {{version: 1}}
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    # Nearly without opinions: a word's perplexity is the product of its bytes'.
    tiny_models.save_llama(folder / "base", spread=0.06)
    tiny_models.lora(tiny_models.llama(spread=0.06)).save_pretrained(folder / "tuned")
    return folder


def texts(sizes):
    draw = random.Random(5)
    return [" ".join(draw.choice("abcdef") for _ in range(size)) + "." for size in sizes]


def compared(models, tmp_path, metric, rows):
    (tmp_path / "test.json").write_text("\n".join(json.dumps({"text": text}) for text in rows))
    (tmp_path / "texts.yaml").write_text(TASK.format(folder=tmp_path, metric=metric))
    done = evaluate(
        models / "base", models / "tuned", tasks=["texts"], modes="base,tuned",
        output=tmp_path / "run", include_path=[tmp_path], settings=Settings(chat_template=False),
    )  # fmt: skip
    return done.summary, {one.mode: one for one in read_results(done.output)}


@pytest.mark.parametrize("metric", ["byte_perplexity", "word_perplexity", "bits_per_byte"])
def test_modes_are_compared_over_documents_by_the_pooled_ratio(models, tmp_path, metric):
    rows = texts([3 + place % 30 for place in range(DOCUMENTS)])
    said, found = compared(models, tmp_path, metric, rows)
    change = said.difference("tuned", "base", "texts")
    values = {mode: found[mode].metrics[f"{metric},none"] for mode in found}
    assert change.value == pytest.approx(values["tuned"] - values["base"])
    assert said.score("base", "texts").value == values["base"]
    # The same, from each document's log-probability: here by NumPy's own draws.
    units = np.array([len(t.split(" ")) if "word" in metric else len(t.encode()) for t in rows])
    back = {"bits_per_byte": lambda score: -score * math.log(2)}.get(metric, lambda s: -math.log(s))
    nats = {m: np.array([back(s) for s in found[m].scores]) * units for m in found}
    drawn = np.random.default_rng(9).integers(DOCUMENTS, size=(4000, DOCUMENTS))
    pooled = {m: nats[m][drawn].sum(1) / units[drawn].sum(1) for m in nats}
    made = (lambda x: -x / math.log(2)) if metric == "bits_per_byte" else (lambda x: np.exp(-x))
    apart = made(pooled["tuned"]) - made(pooled["base"])
    low, high = np.quantile(apart, [0.025, 0.975])
    width = high - low
    assert change.low == pytest.approx(low, abs=0.15 * width)
    assert change.high == pytest.approx(high, abs=0.15 * width)
    assert change.low < change.value < change.high


def test_long_documents_weigh_more(models, tmp_path):
    """Averaged by documents the mode that is better at the many short ones would win."""
    rows = texts([2] * 20 + [200] * 5)
    _, found = compared(models, tmp_path, "byte_perplexity", rows)
    units = [len(text.encode()) for text in rows]
    for one in found.values():
        nats = sum(math.log(s) * n for s, n in zip(one.scores, units, strict=True))
        assert one.value == pytest.approx(math.exp(nats / sum(units)), rel=1e-6)
        assert abs(one.value - math.fsum(one.scores) / len(rows)) > 0.01


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A model whose tokenizer begins each text with a token, as Llama's and Gemma's do."""
    folder = tmp_path_factory.mktemp("begun")
    tiny_models.llama().save_pretrained(folder)
    tokenizer = tiny_models.tokenizer()
    tokenizer.bos_token = "<|a|>"
    first = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|a|> $A", special_tokens=[("<|a|>", first)]
    )
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("text", ["x", "some text", "<|a|>some text", "long " * 40, ""])
def test_what_begins_a_text_is_there_once_and_not_scored(begun, text):
    lm = ModesLM(InMemory(begun, None).backend({"base": "none"}, lambda *_: None), lambda *_: None)
    lm.mode = "base"
    bare = text.removeprefix("<|a|>")
    with quiet_harness():
        theirs = HFLM(str(begun), device="cpu", dtype="float32", add_bos_token=False)
        twice = HFLM(str(begun), device="cpu", dtype="float32")
        ask = [Instance("loglikelihood_rolling", {}, (text,), 0)]
        asked = [Instance("loglikelihood_rolling", {}, (bare,), 0)]
        assert twice.tok_encode("x")[0] == twice.prefix_token_id, "the control: it adds one"
        (found,), (expected,) = lm.loglikelihood_rolling(ask), theirs.loglikelihood_rolling(asked)
        (double,) = twice.loglikelihood_rolling(ask)
    assert found == pytest.approx(expected, abs=1e-3)
    assert double < found - 0.01, "the harness scores what begins the text as well"
