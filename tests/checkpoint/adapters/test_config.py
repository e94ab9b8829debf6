"""The narrowed config against PEFT's own matching."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key

from taia.checkpoint.adapters.config import read_adapter_config
from taia.checkpoint.adapters.match import scaling, targets
from taia.checkpoint.adapters.narrow import NO_MODULES, Kept, narrow
from taia.errors import AdapterError, InputError

LEAVES = ["self_attn.q_proj", "self_attn.o_proj", "attn.c_proj", "mlp.c_proj", "mlp.up_proj"]
UNIVERSE = [f"model.layers.{i}.{leaf}" for i in (0, 1, 10) for leaf in LEAVES]
UNIVERSE += ["h.1.attn.c_proj", "lm_head"]
NOTHING = Kept(frozenset(), frozenset(), frozenset(), frozenset(), False)


def kept(modules: Any = (), parameters: Any = (), wholes: Any = (), tokens: Any = ()) -> Kept:
    return Kept(*map(frozenset, (modules, parameters, wholes, tokens)), False)


def config(**values: Any) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj"],
        "exclude_modules": None,
        "layers_to_transform": None,
        "layers_pattern": None,
        "modules_to_save": None,
        "target_parameters": None,
        "rank_pattern": {},
        "alpha_pattern": {},
        "trainable_token_indices": None,
        "bias": "none",
        **values,
    }


def peft_matches(values: dict[str, Any], modules: list[str]) -> set[str]:
    lora = LoraConfig(**{k: v for k, v in values.items() if k not in ("peft_type",)})
    return {m for m in modules if check_target_module_exists(lora, m)}


matching = st.fixed_dictionaries(
    {
        "target_modules": st.one_of(
            st.lists(
                st.sampled_from([*LEAVES, "q_proj", "c_proj", "up_proj", "lm_head"]), min_size=1
            ),
            st.sampled_from([r".*\.c_proj", r".*(q|up)_proj", r"model\.layers\.1\..*_proj"]),
        ),
        "exclude_modules": st.sampled_from([None, ["attn.c_proj"], r".*\.10\..*", ["lm_head"]]),
        "modules_to_save": st.sampled_from([None, ["lm_head"]]),
    }
)
layers = st.sampled_from(
    [(None, None), (1, None), ([0, 10], None), ([], None), ([1], "h"), ([1], ["h", "layers"])]
)


@given(matching, layers)
def test_targets_are_those_of_peft(values, wanted_layers):
    if not isinstance(values["target_modules"], str):
        transform, pattern = wanted_layers
        values = {**values, "layers_to_transform": transform, "layers_pattern": pattern}
    values = config(**values)
    assert {m for m in UNIVERSE if targets(values, m)} == peft_matches(values, UNIVERSE)


@given(st.data(), matching, layers, st.booleans())
def test_narrowed_config_matches_exactly_what_was_kept(data, values, wanted_layers, with_base):
    if not isinstance(values["target_modules"], str):
        transform, pattern = wanted_layers
        values = {**values, "layers_to_transform": transform, "layers_pattern": pattern}
    values = config(**values)
    before = peft_matches(values, UNIVERSE)
    if not before:
        return
    after = data.draw(st.sets(st.sampled_from(sorted(before)), min_size=1))
    rest = set(UNIVERSE) - after if with_base else None
    new = narrow(values, kept(before), kept(after), (), rest)
    assert peft_matches(new, UNIVERSE) == after
    assert new.keys() == values.keys()
    if after == before:
        assert new == values


@given(
    st.sampled_from(["model.layers.0.self_attn.q_proj", "transformer.h.3.attn.c_proj", "q_proj"])
)
def test_scaling_is_pefts(module):
    ranks = {"q_proj": 2, r"h\.\d+\.attn\.c_proj": 16}
    alphas = {"layers.0.self_attn.q_proj": 3, "c_proj": 5}
    for rs in (False, True):
        values = config(rank_pattern=ranks, alpha_pattern=alphas, use_rslora=rs)
        rank = ranks.get(get_pattern_key(ranks, module), 4)
        alpha = alphas.get(get_pattern_key(alphas, module), 8)
        assert scaling(values, module) == pytest.approx(alpha / (rank**0.5 if rs else rank))


_KEYS = ["q_proj", "a.q_proj", r"a\.q_proj", "a.b", "b", "", ".", "..", "(", "(?i)B", "[ab]", "a|b"]
_KEYS += [r"\\.", "a.*", "^b", "b$", "é", "a\nb", "x\0y", "model.a.q_proj"]
_PARTS = ["a", "b", "q_proj", "aXq_proj", "B", "é", "", "model", "a\nb", "b\n", "x\0y"]


@given(
    st.lists(st.sampled_from(_KEYS) | st.text("ab.\\", max_size=4), unique=True, max_size=6),
    st.lists(st.sampled_from(_PARTS), min_size=1, max_size=4).map(".".join),
)
def test_a_patterns_first_key_that_matches_counts(keys, module):
    def matches(key: str) -> bool:
        try:
            return re.match(rf"(.*\.)?({key})$", module) is not None
        except re.error:
            return False

    ranks = {key: 10 + index for index, key in enumerate(keys)}
    rank = next((ranks[key] for key in keys if matches(key)), 4)
    assert scaling(config(rank_pattern=ranks), module) == pytest.approx(8 / rank)


def test_as_many_patterns_as_modules_are_looked_up():
    """What AdaLoRA or EVA write for a mixture of experts; tried one by one they take hours."""
    names = [f"model.layers.{i}.mlp.experts.{j}.up_proj" for i in range(100) for j in range(300)]
    values = config(
        rank_pattern={name: 1 + index % 7 for index, name in enumerate(names)},
        alpha_pattern={name.replace(".", r"\."): 5 for name in names},
        target_modules=["up_proj"],
    )
    for index, name in enumerate(names):
        assert scaling(values, name) == 5 / (1 + index % 7)
    left = names[1::3]
    new = narrow(values, kept(names), kept(left), (), None)
    assert list(new["rank_pattern"]) == left
    assert len(new["alpha_pattern"]) == len(left)


def test_endings_shared_by_both_halves_are_not_used():
    blocks = [f"h.{i}.{leaf}" for i in range(2) for leaf in ("attn.c_proj", "mlp.c_proj")]
    attention = [m for m in blocks if "attn" in m]
    new = narrow(config(target_modules=["c_proj"]), kept(blocks), kept(attention), (), None)
    assert new["target_modules"] == ["attn.c_proj"]


def test_without_the_base_no_ending_is_guessed():
    """``attn.c_proj`` would do for this adapter, but the base may have an mlp.c_proj besides."""
    values = config(target_modules=r".*(0\.attn\.c_proj|c_fc)")
    before = kept(["h.0.attn.c_proj", "h.0.mlp.c_fc"])
    new = narrow(values, before, kept(["h.0.attn.c_proj"]), (), None)
    assert new["target_modules"] == ["h.0.attn.c_proj"]


def test_patterns_of_dropped_modules_go():
    values = config(
        target_modules=["q_proj", "up_proj"],
        rank_pattern={"q_proj": 2, r"layers\.\d+\.mlp\.up_proj": 3},
        alpha_pattern={"up_proj": 3},
    )
    before = kept(["layers.0.attn.q_proj", "layers.0.mlp.up_proj"])
    new = narrow(values, before, kept(["layers.0.attn.q_proj"]), (), None)
    assert new["rank_pattern"] == {"q_proj": 2}
    assert new["alpha_pattern"] == {}


def test_target_parameters_partly_kept_are_written_out():
    names = [f"layers.{i}.mlp.experts.{p}" for i in (0, 1) for p in ("gate_up_proj", "down_proj")]
    values = config(target_modules=[], target_parameters=["experts.gate_up_proj", "down_proj"])
    after = kept(parameters=[n for n in names if "layers.0" in n or "down" in n])
    new = narrow(values, kept(parameters=names), after, (), None)
    assert new["target_parameters"] == ["layers.0.mlp.experts.gate_up_proj", "down_proj"]
    assert narrow(values, kept(parameters=names), NOTHING, (), None)["target_parameters"] is None


def test_whole_modules_partly_kept_are_written_out():
    values = config(modules_to_save=["norm", "lm_head"])
    wholes = ["layers.0.norm", "layers.1.norm", "lm_head"]
    after = kept(["q_proj"], wholes=["layers.1.norm"])
    new = narrow(values, kept(["q_proj"], wholes=wholes), after, ["lm_head", "layers.0.norm"], None)
    assert new["modules_to_save"] == ["layers.1.norm"]


def test_modules_freed_from_being_whole_are_not_targeted_instead():
    """PEFT does not adapt what it saves whole, so it would adapt lm_head instead."""
    values = config(target_modules=["q_proj", "lm_head"], modules_to_save=["lm_head"])
    before = kept(["layers.0.q_proj"], wholes=["lm_head"])
    new = narrow(values, before, kept(["layers.0.q_proj"]), ["lm_head"], None)
    assert peft_matches(new, ["layers.0.q_proj", "lm_head"]) == {"layers.0.q_proj"}


def test_only_whole_modules_left_is_a_config_that_peft_loads():
    values = config(modules_to_save=["lm_head"])
    new = narrow(values, kept(["q_proj"], wholes=["lm_head"]), kept(wholes=["lm_head"]), (), None)
    assert new["target_modules"] == NO_MODULES


def test_tokens_and_biases_go_with_their_tensors():
    values = config(trainable_token_indices={"embed_tokens": [1], "other": [2]}, bias="all")
    before = Kept(frozenset({"q"}), frozenset(), frozenset(), frozenset({"m.embed_tokens"}), True)
    new = narrow(values, before, kept(["q"]), (), None)
    assert new["trainable_token_indices"] is None
    assert new["bias"] == "none"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"peft_type": "IA3"}, "IA3"),
        ({"peft_type": "PROMPT_TUNING"}, "PROMPT_TUNING"),
        ({"init_lora_weights": "pissa"}, "principal singular values"),
        ({"init_lora_weights": "pissa_niter_16"}, "principal singular values"),
        ({"init_lora_weights": "olora"}, "subtracts"),
        ({"init_lora_weights": "corda"}, "CorDA"),
        ({"init_lora_weights": "lora_ga"}, "LoRA-GA"),
        ({"init_lora_weights": "loftq"}, "quantised"),
        ({"use_qalora": True}, "QALoRA"),
        ({"kasa_config": {"beta": 1}}, "KaSA"),
        ({"layer_replication": [[0, 2], [1, 3]]}, "layer_replication"),
        ({"megatron_config": {"a": 1}}, "Megatron"),
        ({"r": 0}, "r=0"),
        ({"rank_pattern": ["q_proj"]}, "rank_pattern"),
    ],
)
def test_refusals_say_why(tmp_path, values, reason):
    (tmp_path / "adapter_config.json").write_text(json.dumps(config(**values)))
    with pytest.raises(AdapterError, match=re.escape(reason)) as caught:
        read_adapter_config(tmp_path)
    assert caught.value.mend


@pytest.mark.parametrize("init", [True, False, "eva", "gaussian", "orthogonal", "mica"])
def test_starts_that_leave_the_base_alone_are_fine(tmp_path, init):
    (tmp_path / "adapter_config.json").write_text(json.dumps(config(init_lora_weights=init)))
    assert read_adapter_config(tmp_path)["init_lora_weights"] == init


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "null",
        "[" * 100_000,
        '{"peft_type": "LORA", "r": "4"}',
        '{"peft_type": "LORA", "r": 1' + "0" * 400 + "}",
        '{"peft_type": "LORA", "r": 4, "lora_alpha": 1' + "0" * 400 + "}",
        '{"peft_type": "LORA", "r": 4, "target_modules": "a{99999999999999999999}"}',
    ],
)
def test_damaged_configs_are_refused(tmp_path, text):
    (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(InputError, match="adapter_config"):
        read_adapter_config(tmp_path)


def test_a_folder_without_config_is_refused(tmp_path):
    with pytest.raises(AdapterError, match="no adapter_config"):
        read_adapter_config(tmp_path)
