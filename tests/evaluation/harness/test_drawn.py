"""What is drawn comes out as often as the model itself says, for every seed."""

import json
import math

import pytest

pytest.importorskip("lm_eval", reason="needs taia[eval]")

import torch

import tiny_models
from taia.evaluation.run import evaluate
from taia.evaluation.scores.results import read_results
from taia.evaluation.settings import Settings

ITEMS = 80
TASK = """task: coin
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/test.json}}}}
test_split: test
output_type: generate_until
doc_to_text: "{question}"
doc_to_target: "{heads}"
generation_kwargs: {{do_sample: true, max_gen_toks: 1, until: []}}
repeats: {repeats}
filter_list: [{{name: first, filter: [{{function: take_first}}]}}]
metric_list: [{{metric: exact_match}}]
metadata: {{version: 1}}
"""
#: What is asked: always the same, the item's number at its end, and at its beginning.
QUESTIONS = ("Flip a coin:", "Flip coin {{id}}:", "{{id}}. Heads or tails?")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_models.save_llama(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def chances(base):
    """Prompt → each first byte's probability, by the model alone."""
    model, tokenizer = tiny_models.llama(), tiny_models.tokenizer()

    def of(prompt):
        with torch.inference_mode():
            ids = tokenizer(prompt, return_tensors="pt").input_ids
            likely = model(ids).logits[0, -1].softmax(-1).tolist()
        return {tokenizer.decode([token]): share for token, share in enumerate(likely)}

    return of


@pytest.fixture
def flips(base, tmp_path):
    """Who drew heads, item by item."""

    def made(question, heads, name="run", repeats=1, limit=None, seed=1, **options):
        folder = tmp_path / "tasks"
        folder.mkdir(exist_ok=True)
        rows = [{"id": str(number), "heads": heads} for number in range(ITEMS)]
        (folder / "test.json").write_text("\n".join(map(json.dumps, rows)))
        text = TASK.format(folder=folder, question=question, heads="{{heads}}", repeats=repeats)
        (folder / "coin.yaml").write_text(text)
        settings = Settings(limit=limit, seed=seed, chat_template=False)
        evaluate(
            base, tasks=["coin"], modes="base", output=tmp_path / name, include_path=[folder],
            settings=settings, **options,
        )  # fmt: skip
        (result,) = read_results(tmp_path / name)
        return result.scores

    return made


@pytest.mark.parametrize("question", QUESTIONS)
def test_heads_come_as_often_as_the_model_says(flips, chances, question):
    prompts = [question.replace("{{id}}", str(number)) for number in range(ITEMS)]
    likely = [chances(prompt) for prompt in prompts]
    # Printable, and as near to two in five as there is.
    faces = [face for face in likely[0] if face.isprintable() and face not in ' \\"{}#%']
    heads = min(faces, key=lambda face: abs(sum(of[face] for of in likely) / ITEMS - 0.4))
    shares = [of[heads] for of in likely]
    expected, spread = sum(shares), math.sqrt(sum(p * (1 - p) for p in shares))
    assert 0.05 < expected / ITEMS < 0.95, "a coin"
    drawn = [flips(question, heads, name=f"run{seed}", seed=seed) for seed in (1, 2, 1234)]
    for row in drawn:
        assert abs(sum(row) - expected) < 4.5 * spread
    assert len(set(map(tuple, drawn))) == 3, "another seed draws otherwise"


def test_the_same_seed_draws_the_same(flips):
    first = flips(QUESTIONS[0], "e")
    assert flips(QUESTIONS[0], "e", "again", batch_size=7) == first
    assert flips(QUESTIONS[0], "e", "some", limit=40) == first[:40]
    assert flips(QUESTIONS[0], "e", "more", repeats=3) == first
