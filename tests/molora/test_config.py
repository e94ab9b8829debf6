"""The config: what it takes, what it refuses, and that a file gives it back."""

import json

import pytest
from peft import PeftConfig

from taia.errors import AdapterError
from taia.molora import MoloraConfig

OTHER = {
    "r": 4,
    "lora_alpha": 10,
    "lora_dropout": 0.1,
    "target_modules": {"q_proj", "up_proj"},
    "expert_modules": {"up_proj"},
    "num_experts": 8,
    "top_k": 2,
    "shared_expert": 2,
    "routing": "topk_softmax",
    "router_aux_loss_coef": 0.01,
    "use_rslora": True,
    "rank_pattern": {"q_proj": 2},
    "task_type": "CAUSAL_LM",
}


def test_a_file_gives_the_config_back(tmp_path):
    config = MoloraConfig(**OTHER)
    config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"] == "MOLORA"
    for read in (MoloraConfig, PeftConfig):
        found = read.from_pretrained(tmp_path)
        assert type(found) is MoloraConfig
        assert found.to_dict() == config.to_dict()


def test_true_is_a_shared_expert_of_rank_r():
    assert MoloraConfig(shared_expert=True).shared_expert == 1
    assert MoloraConfig(shared_expert=False).shared_expert == 0


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("r", 0),
        ("r", True),
        ("lora_alpha", float("nan")),
        ("lora_dropout", 1),
        ("lora_dropout", -0.1),
        ("target_modules", "("),
        ("target_modules", []),
        ("expert_modules", [3]),
        ("num_experts", 0),
        ("top_k", 0),
        ("top_k", 5),
        ("shared_expert", -1),
        ("shared_expert", 1.5),
        ("routing", "softmax"),
        ("router_aux_loss_coef", -1),
        ("bias", "some"),
        ("rank_pattern", {"q_proj": 0}),
        ("alpha_pattern", {"q_proj": "2"}),
        ("init_lora_weights", "pissa"),
    ],
)
def test_a_value_that_means_nothing_is_refused_by_name(setting, value):
    with pytest.raises(AdapterError, match=rf"^{setting}="):
        MoloraConfig(**{setting: value})
