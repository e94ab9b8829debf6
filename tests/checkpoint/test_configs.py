"""Which values the output's config.json takes from either side."""

from __future__ import annotations

import json

import pytest

from taia.checkpoint.configs import check_kinship, composed_config, read_config
from taia.errors import CheckpointError, MismatchError

PLAIN = {"attention_tuned": False, "tokens_tuned": False, "rows": None, "untied": False}


def test_alike_they_are_the_bases() -> None:
    assert composed_config({"a": 1}, {"a": 1}, **PLAIN) == (None, [])


def test_positions_come_with_the_attention() -> None:
    base = {"rope_theta": 1.0, "max_position_embeddings": 8, "sliding_window": 4}
    tuned = {"rope_theta": 2.0, "max_position_embeddings": 16}
    taken, _ = composed_config(base, tuned, **{**PLAIN, "attention_tuned": True})
    assert taken == tuned  # the window goes: the attention was trained without
    kept, (note,) = composed_config(base, tuned, **PLAIN)
    assert kept is None
    assert "base's" in note


def test_the_spellings_of_two_versions_are_the_same_positions() -> None:
    older = {"rope_theta": 5.0, "rope_scaling": {"type": "linear", "factor": 2.0}}
    newer = {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5.0}}
    assert composed_config(older, newer, **{**PLAIN, "attention_tuned": True}) == (None, [])


def test_tokens_come_with_the_tokenizer_and_rows_with_the_vocabulary() -> None:
    base = {"text_config": {"vocab_size": 8, "eos_token_id": 1}, "eos_token_id": 1}
    tuned = {"text_config": {"vocab_size": 9, "eos_token_id": [1, 2]}, "eos_token_id": [1, 2]}
    config, _ = composed_config(base, tuned, **{**PLAIN, "tokens_tuned": True, "rows": 9})
    assert config == tuned
    assert base["text_config"]["vocab_size"] == 8  # what was given is not changed


def test_untied_where_it_was_tied_in_either_place() -> None:
    base = {"tie_word_embeddings": True, "text_config": {"tie_word_embeddings": True}}
    config, _ = composed_config(base, None, **{**PLAIN, "untied": True})
    assert config == {"tie_word_embeddings": False, "text_config": {"tie_word_embeddings": False}}


def test_other_differences_are_told() -> None:
    config, (note,) = composed_config({"x": 1, "y": 1}, {"x": 2, "y": 1}, **PLAIN)
    assert config is None
    assert "differs in x;" in note


def test_only_one_side_quantised_is_refused() -> None:
    quantised = {"quantization_config": {"quant_method": "gptq"}}
    for pair, whose in (((quantised, {}), "base"), (({}, quantised), "tuned model")):
        with pytest.raises(MismatchError, match=rf"Only the {whose} is quantised \(gptq\)"):
            check_kinship(*pair)
    check_kinship(quantised, quantised)
    check_kinship(None, quantised)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    "value", [1, True, "LlamaForCausalLM", {"a": 1}, [1], ["A", None], [["A"]]]
)
def test_architectures_are_names(tmp_path, value, inside) -> None:
    config = {"architectures": value}
    (tmp_path / "config.json").write_text(json.dumps({"text_config": config} if inside else config))
    with pytest.raises(CheckpointError, match=r"architectures=.*not a list of names"):
        read_config(tmp_path)


@pytest.mark.parametrize("value", [None, [], ["LlamaForCausalLM"], ["A", "B"]])
def test_and_those_that_are_stay(tmp_path, value) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": value}))
    assert read_config(tmp_path) == {"architectures": value}
