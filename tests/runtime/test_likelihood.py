"""Shared-prompt scoring against one full forward per option."""

import random

import pytest
import torch

import tiny_models
from taia.runtime.forward import can_share
from taia.runtime.likelihood import likelihoods
from taia.runtime.packing import can_pack
from taia.runtime.rating import Likelihood, Request

V = tiny_models.VOCABULARY
LLAMA = tiny_models.LLAMA
#: Largest difference between two float32 log-probability sums of the same thing; sums reach −100.
TOLERANCE = 2e-4

SHARING = {
    "llama": ("llama", LLAMA),
    "eager attention": ("llama", {**LLAMA, "attn_implementation": "eager"}),
    "half of a head rotated": ("gpt_neox", {**LLAMA, "rotary_pct": 0.5}),
    "experts": ("mixtral", {**LLAMA, "num_local_experts": 4}),
    "absolute positions": (
        "gpt2",
        {"vocab_size": V, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    ),
    "sliding window": ("mistral", {**LLAMA, "sliding_window": 4}),
    "alternating windows, soft-capped logits": (
        "gemma2",
        {**LLAMA, "head_dim": 8, "sliding_window": 4, "final_logit_softcapping": 5.0},
    ),
    "alibi": ("bloom", {"vocab_size": V, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "scaled logits": ("cohere", {**LLAMA, "logit_scale": 0.3}),
}
APART = {
    "hybrid": ("lfm2", {**LLAMA, "layer_types": ["conv", "full_attention"]}),
    "recurrent": ("mamba", {"vocab_size": V, "hidden_size": 32, "num_hidden_layers": 2}),
}


def requests(count: int = 30, head: int = 5) -> list[Request]:
    rng = random.Random(3)

    def tokens(size: int) -> tuple[int, ...]:
        return tuple(rng.randrange(256) for _ in range(size))

    start = tokens(head)
    return [
        Request(
            start + tokens(rng.randint(1, 9)),
            tuple(tokens(rng.randint(1, 5)) for _ in range(rng.randint(2, 4))),
        )
        for _ in range(count)
    ]


@torch.no_grad()
def naive(model, asked):
    """One forward per option, alone and whole, in double precision from the logits on."""
    scores = []
    for request in asked:
        row = []
        for option in request.options:
            logits = model(input_ids=torch.tensor([request.prompt + option])).logits[0].double()
            logs = logits.log_softmax(-1)
            at = len(request.prompt) - 1
            row.append(
                Likelihood(
                    sum(float(logs[at + i, token]) for i, token in enumerate(option)),
                    all(int(logs[at + i].argmax()) == token for i, token in enumerate(option)),
                )
            )
        scores.append(row)
    return scores


def distance(one, other) -> float:
    pairs = [p for x, y in zip(one, other, strict=True) for p in zip(x, y, strict=True)]
    assert [a.is_greedy for a, _ in pairs] == [b.is_greedy for _, b in pairs]
    return max(abs(a.logprob - b.logprob) for a, b in pairs)


@pytest.mark.parametrize("name", [*SHARING, *APART])
@pytest.mark.parametrize("batch_tokens", [1, 64])
def test_scores_equal_one_full_forward_per_option(name, batch_tokens):
    kind, config = {**SHARING, **APART}[name]
    model = tiny_models.model(kind, **config)
    asked = requests()
    expected = naive(model, asked)
    assert max(map(max, expected)).logprob - min(map(min, expected)).logprob > 5, (
        "the model has no opinions"
    )
    assert distance(likelihoods(model, asked, batch_tokens=batch_tokens), expected) < TOLERANCE


@pytest.mark.parametrize("name", SHARING)
def test_both_ways_give_the_same(name):
    kind, config = SHARING[name]
    model = tiny_models.model(kind, **config)
    asked = requests()
    assert can_share(model)
    shared = likelihoods(model, asked, share=True)
    assert distance(shared, likelihoods(model, asked, share=False)) < TOLERANCE


@pytest.mark.parametrize("name", ["llama", "eager attention", "half of a head rotated", "experts"])
def test_options_of_a_prompt_run_in_one_row(name):
    kind, config = SHARING[name]
    model = tiny_models.model(kind, **config)
    rows = []
    model.register_forward_pre_hook(
        lambda _, __, given: rows.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    asked = [Request((1, 2, 3), ((4, 5, 6, 7), (2, 4), (9,), (3, 3, 8)))]
    found = likelihoods(model, asked)
    assert rows[-1] == (1, 3 + 1 + 2)
    assert distance(found, naive(model, asked)) < TOLERANCE


def test_options_of_a_prompt_beyond_a_batch_run_in_several_rows():
    model = tiny_models.llama()
    rng = random.Random(7)
    options = tuple(tuple(rng.randrange(256) for _ in range(1 + n % 7)) for n in range(60))
    asked = [Request((1, 2, 3), options), Request((1, 2, 5, 6), options[:9])]
    rows = []
    model.register_forward_pre_hook(
        lambda _, __, given: rows.append(given["input_ids"].numel()), with_kwargs=True
    )
    found = likelihoods(model, asked, batch_tokens=16)
    assert max(rows) <= 16
    assert distance(found, naive(model, asked)) < TOLERANCE


def test_a_model_that_does_not_heed_the_mask_is_found_out():
    model = tiny_models.llama()

    def two_dimensions_only(_, args, given):
        mask = given.get("attention_mask")
        rest = {name: value for name, value in given.items() if name != "attention_mask"}
        return args, given if mask is None or mask.dim() == 2 else rest

    model.register_forward_pre_hook(two_dimensions_only, with_kwargs=True)
    assert not can_pack(model)
    asked = [Request((1, 2, 3), ((4, 5, 6), (2, 4, 1)))]
    assert distance(likelihoods(model, asked), naive(model, asked)) < TOLERANCE


@pytest.mark.parametrize("name", APART)
def test_recurrent_states_are_not_shared(name):
    kind, config = APART[name]
    assert not can_share(tiny_models.model(kind, **config))


def test_prompts_without_a_common_head():
    model = tiny_models.llama()
    asked = requests(head=0)
    assert distance(likelihoods(model, asked), naive(model, asked)) < TOLERANCE


def test_one_prompt_that_is_another_s_beginning():
    model = tiny_models.llama()
    asked = [Request((1, 2, 3), ((4,), (5, 6))), Request((1, 2, 3, 4, 5), ((4, 4), (5,)))]
    assert distance(likelihoods(model, asked), naive(model, asked)) < TOLERANCE


def test_dropout_is_off_and_comes_back():
    model = tiny_models.lora(tiny_models.llama(), lora_dropout=0.5)
    model.train()
    asked = requests(4)
    assert likelihoods(model, asked) == likelihoods(model, asked)
    assert model.training


def test_head_sees_only_labels():
    """A head at every position would be most of the work of a small model."""
    model = tiny_models.llama()
    seen = []
    model.lm_head.register_forward_hook(
        lambda _, inputs, __: seen.append(inputs[0].shape[:2].numel())
    )
    asked = [Request(tuple(range(40)), ((1,), (2, 3)))]
    likelihoods(model, asked)
    # The probe of the cache, the head of all prompts, the prompt's end, and option (2, 3) once.
    assert sum(seen) == 4


def test_prompt_runs_once():
    model = tiny_models.llama()
    rows = []
    model.model.embed_tokens.register_forward_hook(
        lambda _, inputs, __: rows.append(inputs[0].numel())
    )
    assert can_pack(model)
    tried = sum(rows)
    likelihoods(model, [Request(tuple(range(40)), ((1, 2), (2, 3), (3, 4)))])
    # Both probes, the prompt, and one token of each option.
    assert sum(rows) == tried + (1 + tried) + 40 + 3


@pytest.mark.parametrize("share", [True, False])
def test_greedy_is_every_token_the_likeliest(share):
    model = tiny_models.llama()
    ids = torch.tensor([[1, 2, 3]])
    likeliest = model.generate(ids, max_new_tokens=4, do_sample=False, eos_token_id=None)
    said = tuple(likeliest[0, 3:].tolist())
    turned = [(*said[:place], said[place] ^ 1, *said[place + 1 :]) for place in range(4)]
    (found,) = likelihoods(model, [Request((1, 2, 3), (said, *turned, said[:1]))], share=share)
    assert [option.is_greedy for option in found] == [True, False, False, False, False, True]


def test_long_continuations_of_short_prompts_run_few_at_a_time():
    """Windows of a rolling likelihood: one token of prompt, all else continuation."""
    model = tiny_models.llama()
    rng = random.Random(5)
    asked = [
        Request((1,), (tuple(rng.randrange(256) for _ in range(rng.randint(1, 30))),))
        for _ in range(40)
    ]
    rows = []
    model.lm_head.register_forward_hook(
        lambda _, inputs, __: rows.append(inputs[0].shape[:2].numel())
    )
    found = likelihoods(model, asked, batch_tokens=64)
    assert max(rows) <= 64
    model.lm_head._forward_hooks.clear()
    assert distance(found, naive(model, asked)) < TOLERANCE


def test_no_requests():
    assert likelihoods(tiny_models.llama(), []) == []


def test_progress_counts_every_request():
    for share in (True, False):
        told = []
        likelihoods(
            tiny_models.llama(), requests(20), batch_tokens=32, share=share, progress=told.append
        )
        assert sum(told) == 20
