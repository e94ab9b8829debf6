"""Routing as functions of tensors, against the formula written out."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from taia.molora.routing import load_balancing_loss, route

ROUTINGS = ("softmax_topk", "topk_softmax")


def by_hand(logits, top_k, routing):
    """Gates of one token, in plain Python."""
    order = sorted(range(len(logits)), key=lambda i: -logits[i])[:top_k]
    over = range(len(logits)) if routing == "softmax_topk" else order
    total = sum(math.exp(logits[i]) for i in over)
    weights = {i: math.exp(logits[i]) / total for i in order}
    if routing == "softmax_topk" and top_k > 1:
        weights = {i: w / sum(weights.values()) for i, w in weights.items()}
    return [weights.get(i, 0.0) for i in range(len(logits))]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-8, 8), min_size=2, max_size=6, unique=True),
    st.integers(1, 6),
    st.sampled_from(ROUTINGS),
)
def test_gates_are_the_formula(logits, top_k, routing):
    top_k = min(top_k, len(logits))
    routed = route(torch.tensor([logits], dtype=torch.float64), top_k, routing)
    torch.testing.assert_close(
        routed.gates[0], torch.tensor(by_hand(logits, top_k, routing), dtype=torch.float64)
    )


@pytest.mark.parametrize("top_k", [2, 3])
def test_the_two_routings_differ_only_with_one_expert(top_k):
    """Renormalised, a softmax over all is a softmax over the chosen."""
    logits = torch.randn(5, 4, dtype=torch.float64)
    first, second = (route(logits, top_k, routing).gates for routing in ROUTINGS)
    torch.testing.assert_close(first, second)
    assert not torch.allclose(*(route(logits, 1, routing).gates for routing in ROUTINGS))


def test_with_one_expert_the_router_learns_under_ours_and_not_under_the_authors():
    gradients = {}
    for routing in ROUTINGS:
        logits = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
        (route(logits, 1, routing).gates * torch.randn(6, 4)).sum().backward()
        gradients[routing] = logits.grad
    assert not gradients["topk_softmax"].any()
    assert gradients["softmax_topk"].any(dim=-1).all()


def test_experts_can_be_renumbered():
    logits, order = torch.randn(7, 5), torch.tensor([3, 0, 4, 1, 2])
    plain, moved = route(logits, 2, "softmax_topk"), route(logits[:, order], 2, "softmax_topk")
    torch.testing.assert_close(moved.gates, plain.gates[:, order], rtol=0, atol=1e-7)


def test_gates_are_calculated_in_float32_and_a_double_stays_one():
    for dtype, wanted in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        assert route(torch.randn(2, 4, dtype=dtype), 1, "softmax_topk").gates.dtype == wanted


def test_the_load_balancing_loss_is_one_where_even_and_the_number_of_experts_where_all_go_to_one():
    even = torch.eye(4).repeat(3, 1) * 1e-3
    assert load_balancing_loss(route(even, 1, "softmax_topk")) == pytest.approx(1, abs=1e-3)
    one = torch.tensor([[50.0, 0, 0, 0]]).repeat(9, 1)
    assert load_balancing_loss(route(one, 1, "softmax_topk")) == pytest.approx(4)


def test_following_its_gradient_spreads_the_tokens():
    torch.manual_seed(0)
    logits = torch.randn(64, 4) + torch.tensor([2.0, 0, 0, 0])
    logits.requires_grad_()
    before = load_balancing_loss(route(logits, 2, "softmax_topk"))
    for _ in range(200):
        (gradient,) = torch.autograd.grad(
            load_balancing_loss(route(logits, 2, "softmax_topk")), logits
        )
        logits.data -= 5 * gradient
    after = load_balancing_loss(route(logits, 2, "softmax_topk"))
    assert before.item() > 1.2
    assert after.item() == pytest.approx(1, abs=0.02)


def test_padding_does_not_count():
    logits = torch.randn(2, 5, 4)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]])
    kept = route(logits[mask.bool()], 2, "softmax_topk")
    masked = load_balancing_loss(route(logits, 2, "softmax_topk"), mask)
    torch.testing.assert_close(masked, load_balancing_loss(kept))
    assert masked != load_balancing_loss(route(logits, 2, "softmax_topk"))
