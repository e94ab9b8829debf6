"""One layer against the formula: a loop over tokens and experts, written independently."""

import pytest
import torch
from torch import nn

from taia.errors import AdapterError
from taia.molora import MoloraConfig, MoloraLinear
from taia.molora.balance import Balance

MEDCARE = {"num_experts": 8, "top_k": 2, "shared_expert": 2}
LAYOUTS = ({}, {"top_k": 2}, MEDCARE, {"use_rslora": True, "shared_expert": 1, "top_k": 4})


def layer(inputs=6, outputs=5, dtype=torch.float64, **settings):
    torch.manual_seed(3)
    config = MoloraConfig(r=2, lora_alpha=6, init_lora_weights=False, **settings)
    made = MoloraLinear(nn.Linear(inputs, outputs, dtype=dtype), "default", Balance())
    made.update_layer("default", config, r=2, lora_alpha=6, routed=True)
    made.base_layer.requires_grad_(False)
    return made


def by_the_formula(of, x, config):
    """y = W x + b + Σ g_i · scale · B_i A_i x, one token and one expert at a time."""
    router, experts = of.lora_router["default"].weight, of.lora_experts["default"]
    a, b = experts.A, experts.B
    scale = 6 / 2**0.5 if config.use_rslora else 6 / 2
    rows = []
    for token in x.reshape(-1, x.shape[-1]):
        y = of.base_layer.weight @ token + of.base_layer.bias
        logits = router @ token
        everyone = logits.exp() / logits.exp().sum()
        chosen = sorted(range(config.num_experts), key=lambda i: -logits[i].item())[: config.top_k]
        total = sum(everyone[i] for i in chosen)
        for i in chosen:
            gate = everyone[i] if config.top_k == 1 else everyone[i] / total
            if config.routing == "topk_softmax":
                gate = logits[i].exp() / sum(logits[j].exp() for j in chosen)
            y = y + gate * scale * (b[i].T @ (a[i] @ token))
        if m := config.shared_expert:
            alone = 6 * m / ((2 * m) ** 0.5 if config.use_rslora else 2 * m)
            shared = of.lora_B["default"].weight @ (of.lora_A["default"].weight @ token)
            y = y + alone * shared
        rows.append(y)
    return torch.stack(rows).reshape(*x.shape[:-1], -1)


@pytest.mark.parametrize("routing", ["softmax_topk", "topk_softmax"])
@pytest.mark.parametrize("settings", LAYOUTS)
@pytest.mark.parametrize("shape", [(6,), (7, 6), (2, 3, 6), (0, 6)])
def test_output_and_every_gradient_are_the_formula_s(settings, routing, shape):
    of, config = layer(routing=routing, **settings), MoloraConfig(routing=routing, **settings)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    parameters = [x, *(p for p in of.parameters() if p.requires_grad)]
    found = of(x)
    if x.numel() == 0:
        assert found.shape == (0, 5)
        return
    wanted = by_the_formula(of, x, config)
    torch.testing.assert_close(found, wanted)
    weights = torch.randn_like(found)
    ours, theirs = (
        torch.autograd.grad((y * weights).sum(), parameters, allow_unused=True)
        for y in (found, wanted)
    )
    for parameter, mine, hers in zip(parameters, ours, theirs, strict=True):
        assert hers is not None or not mine.any()
        if hers is not None:
            torch.testing.assert_close(mine, hers, msg=f"{tuple(parameter.shape)}")


@pytest.mark.parametrize("settings", LAYOUTS)
def test_gradients_are_those_of_finite_differences(settings):
    of = layer(**settings)
    names = [name for name, p in of.named_parameters() if p.requires_grad]
    values = [dict(of.named_parameters())[name].detach().requires_grad_() for name in names]
    x = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)

    def output(x, *values):
        return torch.func.functional_call(of, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(output, (x, *values))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("settings", [{}, MEDCARE])
def test_a_row_alone_is_the_row_in_a_batch(settings, dtype):
    """Up to rounding: a matrix product's order of summing may depend on the number of rows."""
    of = layer(64, 48, dtype, **settings).eval()
    x = torch.randn(5, 7, 64, dtype=dtype)
    together = of(x)
    tolerance = (
        {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.02, "atol": 0.02}
    )
    for row, whole in zip(x, together, strict=True):
        torch.testing.assert_close(of(row[None])[0], whole, **tolerance)
        torch.testing.assert_close(of(row), whole, **tolerance)
        longer = torch.cat([row, torch.zeros(3, 64, dtype=dtype)])
        torch.testing.assert_close(of(longer)[:7], whole, **tolerance)


def test_the_experts_that_a_row_goes_to_do_not_depend_on_its_batch():
    of = layer(64, 48, torch.float32, **MEDCARE)
    x = torch.randn(5, 7, 64)

    def chosen(rows):
        logits = nn.functional.linear(rows, of.lora_router["default"].weight)
        return logits.topk(2).indices

    assert all(torch.equal(chosen(row), whole) for row, whole in zip(x, chosen(x), strict=True))


def test_renumbering_the_experts_changes_nothing():
    of, x = layer(**MEDCARE), torch.randn(9, 6, dtype=torch.float64)
    before, order = of(x), torch.randperm(8)
    experts, router = of.lora_experts["default"], of.lora_router["default"]
    for weight in (experts.A, experts.B, router.weight):
        weight.data = weight.data[order]
    torch.testing.assert_close(of(x), before)
    router.weight.data = router.weight.data[order]
    assert not torch.allclose(of(x), before), "the router alone matters"


def test_equal_experts_all_chosen_are_one_lora():
    of, x = layer(num_experts=3, top_k=3), torch.randn(9, 6, dtype=torch.float64)
    experts = of.lora_experts["default"]
    for weight in (experts.A, experts.B):
        weight.data = weight.data[:1].expand_as(weight).clone()
    a, b = experts.A[0], experts.B[0]
    torch.testing.assert_close(of(x), of.base_layer(x) + 3 * (x @ a.T) @ b)


def test_resetting_gives_the_adapter_first_values_and_leaves_the_pretrained_weight():
    of, x = layer(), torch.randn(9, 6, dtype=torch.float64)
    pretrained = {k: v.clone() for k, v in of.base_layer.state_dict().items()}
    assert not torch.equal(of(x), of.base_layer(x))
    of.reset_parameters("default")
    assert torch.equal(of(x), of.base_layer(x))
    assert all(torch.equal(v, of.base_layer.state_dict()[k]) for k, v in pretrained.items())
    a = of.lora_experts["default"].A
    assert len({tuple(expert.flatten().tolist()) for expert in a}) == len(a), "experts are copies"


def test_dropout_is_on_in_training_off_in_evaluation_and_never_on_the_router(monkeypatch):
    of, x = (
        layer(64, 48, torch.float64, lora_dropout=0.5, shared_expert=1),
        torch.randn(9, 64).double(),
    )
    of.train()
    assert not torch.equal(of(x), of(x))
    of.eval()
    assert torch.equal(of(x), of(x))
    seen = []
    monkeypatch.setattr(Balance, "add", lambda _, routed: seen.append(routed.chosen))
    of.train()
    of(x), of(x)
    assert torch.equal(*seen)


def test_autocast_runs_the_adapter_in_bfloat16_and_gates_in_float32(monkeypatch):
    of, x = layer(64, 48, torch.float32, **MEDCARE), torch.randn(9, 64)
    wanted = of(x)
    seen = []
    monkeypatch.setattr(Balance, "add", lambda _, routed: seen.append(routed.gates.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        found = of(x)
    assert (found.dtype, seen) == (torch.bfloat16, [torch.float32])
    torch.testing.assert_close(found.float(), wanted, rtol=0.05, atol=0.05)


def test_a_bfloat16_base_with_a_float32_adapter_gives_bfloat16():
    of = layer(64, 48, torch.float32)
    of.base_layer.bfloat16()
    x = torch.randn(9, 64, dtype=torch.bfloat16)
    assert of(x).dtype == torch.bfloat16
    of(x).float().sum().backward()
    assert of.lora_router["default"].weight.grad.dtype == torch.float32


def test_merging_is_refused_with_the_reason():
    with pytest.raises(AdapterError, match="depends on the token"):
        layer().merge()
