"""Resized vocabularies and trained tokens, tied and untied: merged and filtered as PEFT does."""

from __future__ import annotations

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from taia.checkpoint.compose import compose
from taia.errors import AdapterError, MismatchError
from tiny_adapters import load_adapted, load_base, logits, quiet, save_pair

WEIGHTS = "adapter_model.safetensors"
ROWS = 70

TOKENS = {"target_modules": ["q_proj"], "trainable_token_indices": [1, 66]}
APART = {
    "target_modules": ["q_proj"],
    "trainable_token_indices": {"embed_tokens": [1, 66], "lm_head": [3]},
}
LOW_RANK = {"target_modules": ["q_proj", "embed_tokens", "lm_head"]}
WHOLE = {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]}
ONE_WHOLE = {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}
PLAIN = {"target_modules": ["q_proj"]}  # the resized vocabulary is saved all the same

RESIZED = [
    *((name, lora) for name in ("llama", "tied-llama") for lora in (TOKENS, APART, LOW_RANK)),
    *((name, lora) for name in ("llama", "tied-llama") for lora in (WHOLE, ONE_WHOLE, PLAIN)),
    ("tied-llama", {"target_modules": ["q_proj", "lm_head"]}),
    ("tied-llama", {"target_modules": ["q_proj", "lm_head"], "use_dora": True}),
    ("gpt2", {"target_modules": ["c_attn"], "trainable_token_indices": {"wte": [1, 66]}}),
]
resized = pytest.mark.parametrize(("name", "lora"), RESIZED, ids=str)


def live(base, adapter):
    """PEFT's own; of what it saves twice it does not load everything, and does not say so."""
    with quiet():
        return PeftModel.from_pretrained(load_base(base, ROWS), adapter).eval()


@resized
def test_the_adapters_vocabulary(pairs, tmp_path, name, lora):
    pair = pairs(name, rows=ROWS, **lora)
    compose(*pair, tmp_path / "out", "tuned", merge=True, vocab="tuned")
    got = load_base(tmp_path / "out")
    assert got.config.vocab_size == len(got.get_input_embeddings().weight) == ROWS
    wanted = logits(live(*pair))
    assert (logits(got) - wanted).abs().max() < 1e-5


@resized
def test_the_bases_vocabulary(pairs, tmp_path, name, lora):
    pair = pairs(name, rows=ROWS, **lora)
    compose(*pair, tmp_path / "out", "tuned", merge=True, vocab="base")
    got = load_base(tmp_path / "out")
    assert got.config.vocab_size == len(got.get_output_embeddings().weight) == 64
    wanted = logits(live(*pair))[..., :64]
    assert (logits(got) - wanted).abs().max() < 1e-5


@resized
def test_nobody_says_whose_vocabulary(pairs, tmp_path, name, lora):
    pair = pairs(name, rows=ROWS, **lora)
    with pytest.raises(MismatchError, match=r"64 rows.*70") as caught:
        compose(*pair, tmp_path / "out", "tuned", merge=True)
    assert "--vocab tuned" in caught.value.mend
    assert not (tmp_path / "out").exists()


@resized
@pytest.mark.parametrize("merge", [False, True])
def test_what_is_dropped_is_not_checked(pairs, tmp_path, name, lora, merge):
    base, adapter = pairs(name, rows=ROWS, **lora)
    compose(base, adapter, tmp_path / "out", "attention", merge=merge)
    if merge:
        got = load_base(tmp_path / "out")
        ours = load_base(base)
        for of in ("get_input_embeddings", "get_output_embeddings"):
            assert torch.equal(getattr(got, of)().weight, getattr(ours, of)().weight)
    else:
        got = load_adapted(base, tmp_path / "out")  # without resizing
        kept = load_file(tmp_path / "out" / WEIGHTS)
        assert all(".q_proj." in key or ".c_attn." in key for key in kept)
    assert (logits(got) - logits(load_base(base))).abs().max() > 1e-4


@resized
def test_as_an_adapter(pairs, tmp_path, name, lora):
    base, adapter = pairs(name, rows=ROWS, **lora)
    done = compose(base, adapter, tmp_path / "out", "tuned")
    assert any(f"resize_token_embeddings({ROWS})" in note for note in done.notes)
    got = logits(live(base, tmp_path / "out"))
    assert torch.equal(got, logits(live(base, adapter)))
    with pytest.raises(AdapterError, match="70 rows") as caught:
        compose(base, adapter, tmp_path / "base", "tuned", vocab="base")
    assert "--merge" in caught.value.mend


@resized
def test_half_of_it_is_the_same_filtered_and_merged(pairs, tmp_path, name, lora):
    if lora.get("use_dora"):
        pytest.skip("DoRA has no fraction as an adapter")
    base, adapter = pairs(name, rows=ROWS, **lora)
    compose(base, adapter, tmp_path / "out", "0.5*all")
    compose(base, adapter, tmp_path / "merged", "0.5*all", merge=True, vocab="tuned")
    filtered = logits(live(base, tmp_path / "out"))
    merged = logits(load_base(tmp_path / "merged"))
    # New rows are the adapter's alone when merged; filtered, what is added to them is scaled.
    assert (filtered - merged)[..., :64].abs().max() < 1e-5


def test_one_resized_tensor_of_two_is_refused(pairs, tmp_path):
    pair = pairs("llama", rows=ROWS, target_modules=["q_proj", "lm_head"])
    with pytest.raises(MismatchError, match="embed_tokens"):
        compose(*pair, tmp_path / "out", "tuned", merge=True, vocab="tuned")
    compose(*pair, tmp_path / "out", "tuned", merge=True, vocab="base")
    wanted = logits(live(*pair))[..., :64]
    assert (logits(load_base(tmp_path / "out")) - wanted).abs().max() < 1e-5


def test_what_repeats_the_embedding_leaves_the_tie(pairs, tmp_path):
    for number, lora in enumerate((TOKENS, PLAIN)):
        pair = pairs("tied-llama", rows=ROWS, **lora)
        out = tmp_path / str(number)
        compose(*pair, out, "tuned", merge=True, vocab="tuned")
        assert load_base(out).config.tie_word_embeddings is True
        assert "lm_head.weight" not in load_file(out / "model.safetensors")


@pytest.mark.parametrize("head", [[3], [1, 5]])
def test_tokens_of_a_tied_head(tmp_path, head):
    """Other tokens than the embedding's are the head's own; the same ones are the tensor's."""
    indices = {"embed_tokens": [1, 5], "lm_head": head}
    lora = {"target_modules": ["q_proj"], "trainable_token_indices": indices}
    pair = save_pair(tmp_path, "tied-llama", **lora)
    compose(*pair, tmp_path / "out", "tuned", merge=True)
    got = load_base(tmp_path / "out")
    assert got.config.tie_word_embeddings == (head == [1, 5])
    assert (logits(got) - logits(load_adapted(*pair))).abs().max() < 1e-5
