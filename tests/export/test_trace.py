"""Whether two models say the same: what counts as a difference."""

import pytest
import torch

from taia.export.trace import STEPS, Trace, compared, distance, lead, prompt_ids, spread
from tiny_models import llama


@pytest.fixture
def trace():
    torch.manual_seed(0)
    return Trace(tuple(range(20)), torch.randn(STEPS, 50))


def check(trace, got, **options):
    return compared("x", trace, got, **{"precision": 1e-3, **options})


def test_the_same_passes_and_a_constant_per_step_says_nothing(trace):
    shifted = trace.logits + torch.arange(STEPS)[:, None].float()
    assert check(trace, shifted).passed
    assert distance(trace.logits, shifted) < 1e-5


def test_one_wrong_token_in_one_step_fails(trace):
    got = trace.logits.clone()
    got[3, 7] += 1
    failed = check(trace, got)
    assert not failed.passed
    assert failed.measured["difference"] == pytest.approx((1 / 50 * 49 / 50 / STEPS) ** 0.5)


def test_what_is_allowed_is_a_share_of_the_spread(trace):
    noise = torch.randn_like(trace.logits)
    off = trace.logits + noise * (0.5e-3 * spread(trace.logits) / spread(noise))
    assert check(trace, off).passed
    assert not check(trace, off, precision=0.4e-3).passed
    assert check(trace, off, precision=0.0, slack=1e-3).passed


def test_it_says_when_it_could_not_have_told_the_base(trace):
    near = trace.logits + 1e-4 * torch.randn_like(trace.logits)
    assert "too little" in check(trace, trace.logits, without=near).said
    assert "too little" not in check(trace, trace.logits, without=-trace.logits).said


def test_the_trace_is_the_models_own_greedy_text():
    model = llama()
    trace = lead(model, [5, 9, 200])
    wanted = model.generate(
        torch.tensor([[5, 9, 200]]), max_new_tokens=STEPS, do_sample=False, eos_token_id=None
    )
    assert [*trace.ids, int(trace.logits[-1].argmax())] == wanted[0].tolist()


def test_without_a_tokenizer_the_prompt_is_from_all_over_the_vocabulary(tmp_path):
    from taia.checkpoint.locate import Located

    ids = prompt_ids(Located("x", tmp_path), 800)
    assert (min(ids), max(ids), len(ids)) == (0, 700, 8)
