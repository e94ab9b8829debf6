"""Models that see: their text towers are switched, scored and asked for answers like any other."""

from __future__ import annotations

import pytest
import torch

import tiny_models
from battery import oracle
from battery.families import FAMILIES
from battery.kinds import KINDS
from taia import SwitchableModel
from taia.checkpoint.locate import locate
from taia.evaluation.harness.encoder import Encoder
from taia.loading.models import load_config
from taia.runtime.check import Limits
from taia.runtime.engine import Engine
from taia.runtime.generation import Generation
from taia.runtime.likelihood import likelihoods
from taia.runtime.rating import Request

SEEING = [name for name, family in FAMILIES.items() if family.sees]
PROMPTS = ([5, 3, 7, 11, 9], [1, 40, 11], [20, 21, 22, 23, 24, 25, 26, 27])


@pytest.fixture(scope="module", params=SEEING)
def adapted(request, tmp_path_factory):
    """A family, and its live model with an adapter of the text tower."""
    family, folder = FAMILIES[request.param], tmp_path_factory.mktemp("seeing")
    base = oracle.random_model(family)
    base.save_pretrained(folder / "base")
    base.name_or_path = str(folder / "base")
    oracle.save(oracle.trained(base, dict(KINDS["LoRA"](family))), folder / "adapter")
    return folder, SwitchableModel.load(folder / "base", folder / "adapter", device="cpu")


@pytest.mark.parametrize("family", SEEING)
def test_the_text_tower_of_a_model_that_sees_is_switched(tmp_path, family):
    """Between whole checkpoints; what sees is kept or dropped with all the rest."""
    base = oracle.random_model(FAMILIES[family])
    base.save_pretrained(tmp_path / "base")
    tuned = oracle.random_model(FAMILIES[family])
    torch.manual_seed(3)
    for parameter in tuned.parameters():
        parameter.data += torch.randn_like(parameter) * 0.1
    tuned.tie_weights()
    tuned.save_pretrained(tmp_path / "tuned")
    model = SwitchableModel.load(tmp_path / "base", tmp_path / "tuned", device="cpu")
    assert torch.equal(oracle.logits(model), oracle.logits(tuned))
    with model.mode("base"):
        assert torch.equal(oracle.logits(model), oracle.logits(base))
    before = dict(base.named_parameters())
    for name, parameter in tuned.named_parameters():
        if FAMILIES[family].feeds_forward(name):
            parameter.data = before[name].data
    with model.mode("taia"):
        assert torch.equal(oracle.logits(model), oracle.logits(tuned))


def test_answers_of_rows_in_modes_are_what_transformers_writes(adapted):
    _, model = adapted
    modes = ("base", "taia", "tuned")
    wanted = []
    for mode, prompt in zip(modes, PROMPTS, strict=True):
        with model.mode(mode):
            written = model.generate(
                torch.tensor([prompt]), max_new_tokens=6, do_sample=False, eos_token_id=None
            )
        wanted.append(written[0, len(prompt) :].tolist())
    asked = [
        Generation(mode=mode, prompt=tuple(prompt), max_new_tokens=6)
        for mode, prompt in zip(modes, PROMPTS, strict=True)
    ]
    answers = Engine(model, tiny_models.tokenizer()).generate(asked)
    assert [[token.id for token in answer.tokens] for answer in answers] == wanted


def test_options_are_scored_as_one_by_one(adapted):
    _, model = adapted
    options = ((3, 4), (9,), (30, 2, 6))
    with model.mode("taia"):
        found = likelihoods(model.model, [Request(tuple(p), options) for p in PROMPTS])
        for prompt, scores in zip(PROMPTS, found, strict=True):
            for option, score in zip(options, scores, strict=True):
                ids = torch.tensor([[*prompt, *option]])
                with torch.no_grad():
                    log = model(input_ids=ids).logits.log_softmax(-1)[0, len(prompt) - 1 : -1]
                alone = log.gather(1, torch.tensor(option)[:, None]).sum()
                assert score.logprob == pytest.approx(float(alone), abs=1e-4)


def test_the_text_tower_says_how_much_can_be_read(adapted):
    folder, model = adapted
    assert Limits.of(model.model).positions == 64
    config = load_config(locate(folder / "base"))
    assert Encoder(config, tiny_models.tokenizer()).max_length == 64
