"""Hidden states of modes, against hooks on a plain transformers model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import cosine_similarity

import tiny_adapters
import tiny_models
from switchables import adapted, noisy
from taia import SwitchableModel
from taia.analysis.activations import activations, residual_rank
from taia.errors import DataError, RunError


def made(family: str) -> Any:
    if family in tiny_adapters.USUAL:
        return tiny_adapters.model(family)
    return tiny_models.model(family, **tiny_models.LLAMA, head_dim=8)


def pair(family: str) -> SwitchableModel:
    return SwitchableModel.wrap(made(family), noisy(made(family), ""))


PROMPTS = [[3, 1, 4, 1, 5, 9], [2, 7, 1, 8]]


def by_hand(model: Any, prompt: list[int], norm: str) -> tuple[list[float], list[torch.Tensor]]:
    """Residual ranks of what each layer's norm is given, and the states after each layer."""
    found: list[torch.Tensor] = []
    handles = [
        module.register_forward_pre_hook(lambda _, args: found.append(args[0][0]))
        for name, module in model.named_modules()
        if name.endswith(norm)
    ]
    with torch.inference_mode():
        out = model(torch.tensor([prompt]), output_hidden_states=True)
    for handle in handles:
        handle.remove()
    ranks = []
    for states in found:
        left = states - states.mean(0, keepdim=True)
        sizes = [
            (torch.linalg.matrix_norm(x, 1) * torch.linalg.matrix_norm(x, torch.inf)) ** 0.5
            for x in (left.double(), states.double())
        ]
        ranks.append(float(sizes[0] / sizes[1]))
    return ranks, [states[0] for states in out.hidden_states[1:]]


NORMS = {
    "llama": "post_attention_layernorm",
    "gpt2": "ln_2",
    "gemma2": "pre_feedforward_layernorm",
    "qwen3-moe": "post_attention_layernorm",
}


@pytest.mark.parametrize("family", NORMS)
def test_states_are_those_of_a_plain_model(family):
    tuned = noisy(made(family), "")
    model = pair(family)
    found = {one.mode: one for one in activations(model, PROMPTS, ["base", "tuned"])}
    plain = {"base": made(family), "tuned": tuned}
    hands = {
        mode: [by_hand(plain[mode], prompt, NORMS[family]) for prompt in PROMPTS] for mode in plain
    }
    for mode, each in hands.items():
        ranks = torch.tensor([ranks for ranks, _ in each]).mean(0)
        assert found[mode].residual_rank == pytest.approx(ranks.tolist(), rel=1e-4)
    alike = [
        [float(cosine_similarity(x, y, -1).mean()) for x, y in zip(one, other, strict=True)]
        for (_, one), (_, other) in zip(hands["base"], hands["tuned"], strict=True)
    ]
    means = torch.tensor(alike).mean(0).tolist()
    assert found["tuned"].similarity == pytest.approx(means, rel=1e-4)
    assert found["base"].similarity == pytest.approx([1.0] * len(means))
    assert max(means) < 0.999
    assert model.current == "tuned"


def test_what_norms_come_after_is_not_taken_for_what_lies_between():
    model = pair("olmo2")
    found = activations(model, PROMPTS[:1], ["base"])[0]
    ranks, _ = by_hand(made("olmo2"), PROMPTS[0], "mlp")
    assert found.residual_rank == pytest.approx(ranks, rel=1e-4)
    wrong, _ = by_hand(made("olmo2"), PROMPTS[0], "post_feedforward_layernorm")
    assert found.residual_rank != pytest.approx(wrong, rel=1e-2)


def test_an_adapters_modes_are_those_of_the_model_that_peft_merges():
    model = SwitchableModel.wrap(adapted("llama"))
    found = {one.mode: one for one in activations(model, PROMPTS[:1], ["base", "tuned", "taia"])}
    merged = adapted("llama").merge_and_unload()
    ranks, _ = by_hand(merged, PROMPTS[0], "post_attention_layernorm")
    assert found["tuned"].residual_rank == pytest.approx(ranks, rel=1e-4)
    assert found["taia"].similarity != pytest.approx(found["tuned"].similarity, rel=1e-3)


def test_blocks_side_by_side_have_nothing_between_them():
    with pytest.raises(RunError, match="side by side"):
        activations(pair("gpt_neox"), PROMPTS, ["base"])


@pytest.mark.parametrize("prompts", [[], [[5]], [[5, 6], []]])
def test_prompts_that_say_nothing_are_refused(prompts):
    with pytest.raises(DataError):
        activations(pair("llama"), prompts, ["base"])


def test_tokens_that_are_alike_leave_nothing():
    assert residual_rank(torch.full((5, 3), 2.0)) == 0
    # X = [[1, 0], [-1, 0]]: its mean is 0
    assert residual_rank(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])) == 1
    # μ = (2, 0); ‖X − μ‖ = √(2 · 1), ‖X‖ = √(4 · 3)
    assert residual_rank(torch.tensor([[3.0, 0.0], [1.0, 0.0]])) == pytest.approx((2 / 12) ** 0.5)
    assert residual_rank(torch.zeros(4, 2)) == 0
