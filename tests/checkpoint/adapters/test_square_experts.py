"""Stacked experts whose matrices are square: no shape tells which way round an update lies."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from taia import SwitchableModel
from taia.checkpoint.compose import compose
from tiny_adapters import load_base, logits, quiet

WIDTH = 32
SIZES = {
    "vocab_size": 64,
    "hidden_size": WIDTH,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
#: Experts that lie [experts, outputs, inputs], or [experts, inputs, outputs], and that say so or
#: do not.
FAMILIES: dict[str, dict[str, Any]] = {
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8},
    "llama4_text": {
        **{"num_local_experts": 4, "num_experts_per_tok": 1, "head_dim": 8},
        "intermediate_size_mlp": 48,
    },
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request) -> str:
    return str(request.param)


# Half the width makes what goes in square (gate and up are one), the width what comes out.
@pytest.fixture(scope="module", params=[WIDTH // 2, WIDTH])
def case(request, family, tmp_path_factory):
    folder = tmp_path_factory.mktemp(family)
    config = AutoConfig.for_model(
        family, **SIZES, **FAMILIES[family], intermediate_size=request.param
    )
    torch.manual_seed(7)
    base = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    for parameter in base.parameters():
        parameter.data = parameter + torch.randn_like(parameter) * 0.1
    square = {p.shape[1:] for n, p in base.named_parameters() if "experts." in n and p.dim() == 3}
    assert (WIDTH, WIDTH) in square
    base.save_pretrained(folder / "base")
    targets = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["q_proj"],
        target_parameters=["experts.gate_up_proj", "experts.down_proj"],
    )
    tuned = get_peft_model(copy.deepcopy(base), targets).eval()
    for name, parameter in tuned.named_parameters():
        if "lora_" in name:
            parameter.data = parameter + torch.randn_like(parameter) * 0.1
    with quiet():
        tuned.save_pretrained(folder / "adapter")
    return folder / "base", folder / "adapter", tuned


def test_merged_filtered_and_live(case, tmp_path):
    base, adapter, whole = case
    attention = copy.deepcopy(whole)
    experts = copy.deepcopy(whole)
    for name, parameter in attention.named_parameters():
        if "lora_B" in name and "experts" in name:
            parameter.data.zero_()
    for name, parameter in experts.named_parameters():
        if "lora_B" in name and "experts" not in name:
            parameter.data.zero_()
    wanted = {"tuned": logits(whole), "taia": logits(attention), "taif": logits(experts)}
    assert (wanted["tuned"] - wanted["taia"]).abs().max() > 0.1
    live = SwitchableModel.load(base, adapter, device="cpu")
    for mode, scores in wanted.items():
        compose(base, adapter, tmp_path / f"{mode}-merged", mode, merge=True)
        assert (logits(load_base(tmp_path / f"{mode}-merged")) - scores).abs().max() < 1e-4
        compose(base, adapter, tmp_path / mode, mode)
        with quiet():
            filtered = PeftModel.from_pretrained(load_base(base), tmp_path / mode).eval()
        assert torch.equal(logits(filtered), scores)
        with live.mode(mode):
            assert torch.equal(logits(live), scores)
