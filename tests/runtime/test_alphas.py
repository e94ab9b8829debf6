"""α that a gradient reaches, against finite differences and ordinary gradients of the weights."""

import re

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import switchables
import tiny_adapters
import tiny_molora
from taia import SwitchableModel
from taia.errors import InputError, RunError
from taia.runtime.alphas import Alphas, One
from taia.runtime.between import Between

IDS = torch.tensor([[3, 14, 15, 9, 26], [5, 35, 8, 9, 7]])

FAMILIES = ("llama", "tied-llama", "gpt2", "qwen3-moe")


def exact(model):
    """A model in float64 all the way: transformers' RMSNorm rounds to float32 in between."""
    for module in [*model.modules()]:
        for name, norm in module.named_children():
            if type(norm).__name__.endswith("RMSNorm"):
                made = torch.nn.RMSNorm(norm.weight.shape, eps=norm.variance_epsilon)
                made.weight = norm.weight
                setattr(module, name, made)
    model.config._experts_implementation = "eager"  # the others know no float64
    return model.double()


def double(family, within=""):
    """A checkpoint's pair, as base and tuned."""
    made = (exact(tiny_adapters.model(family)) for _ in range(2))
    return next(made), switchables.noisy(next(made), within)


def of_pair(family):
    return SwitchableModel.wrap(*double(family))


def of_lora(family, **options):
    adapted = exact(switchables.adapted(family, **options))
    for name, parameter in adapted.named_parameters():
        if "lora_embedding_A" in name:  # is what begins as zero, there
            torch.nn.init.normal_(parameter, std=0.2)
    return SwitchableModel.wrap(adapted)


MODELS = {
    **{f"checkpoint {family}": lambda family=family: of_pair(family) for family in FAMILIES},
    **{f"lora {family}": lambda family=family: of_lora(family) for family in FAMILIES},
    "lora with bias": lambda: of_lora("llama", lora_bias=True),
    "lora of the embedding": lambda: of_lora("llama", target_modules=["embed_tokens", "lm_head"]),
    "molora": lambda: SwitchableModel.wrap(exact(tiny_molora.molora(**tiny_molora.MEDCARE))),
}


@pytest.fixture(params=MODELS)
def model(request):
    with tiny_adapters.quiet():
        return MODELS[request.param]()


def routed(model):
    return any(label.component == "router" for label in model.labels.values())


def places(model):
    """A number for each part of the update; a router has its experts'."""
    names = [part.name for part in model.changed if part.follows is None]
    at = {name: index for index, name in enumerate(names)}
    return at | {part.name: at[part.follows] for part in model.changed if part.follows}


def some(size, seed=0):
    """α between 0.2 and 0.8."""
    return torch.rand(size, dtype=torch.float64, generator=torch.manual_seed(seed)) * 0.6 + 0.2


def measure(model):
    """Something smooth that depends on every logit."""
    logits = model(input_ids=IDS).logits.double()
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), IDS[:, 1:].flatten())


def fails_after(action, model):
    action(model)
    raise ZeroDivisionError


def gradient(model, values, at):
    values = values.clone().requires_grad_()
    with model.at(values, at):
        measure(model).backward()
    return values.grad


def state(model):
    """Every parameter and buffer and number of an adapter, with whether it is trained."""
    live = model.model
    tensors = [*live.named_parameters(), *live.named_buffers()]
    scales = {
        (name, table): dict(getattr(module, table))
        for name, module in live.named_modules()
        for table in ("scaling", "expert_scaling")
        if isinstance(getattr(module, table, None), dict)
    }
    return (
        {name: (tensor.clone(), tensor.requires_grad) for name, tensor in tensors},
        {name: type(module) for name, module in live.named_modules()},
        scales,
    )


def assert_same_state(before, after):
    tensors, *rest = before
    others, *other_rest = after
    assert rest == other_rest
    assert tensors.keys() == others.keys()
    for name, (tensor, trained) in tensors.items():
        assert torch.equal(tensor, others[name][0]), name
        assert trained == others[name][1], name


def test_the_gradient_is_a_finite_difference(model):
    at = places(model)
    size = max(at.values()) + 1
    values = some(size)
    found = gradient(model, values, at)
    step = 1e-6
    for index in range(0, size, max(1, size // 12)):
        ends = []
        for sign in (1, -1):
            moved = values.clone()
            moved[index] += sign * step
            with torch.no_grad(), model.at(moved, at):
                ends.append(float(measure(model)))
        expected = (ends[0] - ends[1]) / (2 * step)
        # MoLoRA's gates, and those of experts, are float32's whatever the model is
        near = 2e-3 if routed(model) else 1e-8
        assert float(found[index]) == pytest.approx(expected, rel=1e-5, abs=near), index


@pytest.mark.parametrize("family", FAMILIES)
def test_the_gradient_is_that_of_the_weights_along_the_update(family):
    base, tuned = double(family)
    after = dict(tuned.named_parameters())
    before = {name: tensor.detach().clone() for name, tensor in base.named_parameters()}
    at = {name: index for index, name in enumerate(before)}
    values = some(len(at))
    plain = exact(tiny_adapters.model(family))
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            parameter.copy_(before[name] + values[at[name]] * (after[name] - before[name]))
    measure(plain).backward()
    expected = {
        name: float((parameter.grad * (after[name] - before[name]).detach()).sum())
        for name, parameter in plain.named_parameters()
    }
    found = gradient(SwitchableModel.wrap(base, tuned), values, at)
    assert any(abs(value) > 1e-6 for value in expected.values())
    for name, index in at.items():
        assert float(found[index]) == pytest.approx(expected[name], rel=1e-8, abs=1e-12), name


@pytest.mark.parametrize("family", FAMILIES)
def test_the_gradient_of_an_adapter_is_that_of_the_weights_along_its_product(family):
    base = exact(tiny_adapters.model(family))
    adapted = exact(switchables.adapted(family))
    merged = dict(exact(switchables.adapted(family)).merge_and_unload().named_parameters())
    before = {name: tensor.detach().clone() for name, tensor in base.named_parameters()}
    model = SwitchableModel.wrap(adapted)
    at = places(model)
    values = some(len(at))
    with torch.no_grad():
        for name, parameter in base.named_parameters():
            if name in at:
                parameter += values[at[name]] * (merged[name] - before[name])
    measure(base).backward()
    grads = {name: parameter.grad for name, parameter in base.named_parameters()}
    found = gradient(model, values, at)
    for name, index in at.items():
        expected = float((grads[name] * (merged[name] - before[name]).detach()).sum())
        assert float(found[index]) == pytest.approx(expected, rel=1e-7, abs=1e-11), name


@pytest.mark.parametrize(("alpha", "mode"), [(0.0, "base"), (1.0, "tuned"), (0.3, "0.3*all")])
def test_the_logits_are_those_of_the_mode_with_these_alphas(model, alpha, mode):
    at = places(model)
    values = torch.full((max(at.values()) + 1,), alpha, dtype=torch.float64)
    with torch.no_grad():
        with model.at(values, at):
            found = model(input_ids=IDS).logits
        with model.mode(mode):
            expected = model(input_ids=IDS).logits
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_what_is_not_named_is_tuned(model):
    at = places(model)
    first, second = list(at.items())[:2]
    with torch.no_grad():
        with model.at(torch.zeros(1), {}):
            all_tuned = model(input_ids=IDS).logits
        with model.at(torch.zeros(1), {first[0]: 0} if model.can_mix else {second[0]: 0}):
            changed = model(input_ids=IDS).logits
        with model.mode("tuned"):
            tuned = model(input_ids=IDS).logits
    torch.testing.assert_close(all_tuned, tuned, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(changed, tuned, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("mode", ["base", "tuned", "0.5*all"])
def test_after_the_block_everything_is_as_before(model, mode):
    at = places(model)
    values = some(max(at.values()) + 1).requires_grad_()
    for number, parameter in enumerate(model.model.parameters()):
        parameter.requires_grad_(number % 3 == 0)
    model.set_mode(mode)
    before, logits = state(model), model(input_ids=IDS).logits
    with model.at(values, at):
        measure(model).backward()
        assert not any(parameter.requires_grad for parameter in model.model.parameters())
    assert_same_state(before, state(model))
    assert torch.equal(logits, model(input_ids=IDS).logits)
    assert model.current == mode
    assert all(parameter.grad is None for parameter in model.model.parameters())


def test_after_an_exception_everything_is_as_before(model):
    at = places(model)
    values = some(max(at.values()) + 1).requires_grad_()
    before, logits = state(model), model(input_ids=IDS).logits
    with pytest.raises(ZeroDivisionError), model.at(values, at):
        fails_after(measure, model)
    assert_same_state(before, state(model))
    assert torch.equal(logits, model(input_ids=IDS).logits)


def test_values_may_be_changed_in_place(model):
    at = places(model)
    size = max(at.values()) + 1
    values, other = some(size, 1).requires_grad_(), some(size, 2)
    with model.at(values, at):
        measure(model).backward()
        values.grad = None
        with torch.no_grad():
            values.copy_(other)
        measure(model).backward()
    torch.testing.assert_close(values.grad, gradient(model, other, at))


def test_a_mode_may_be_entered_inside(model):
    at = places(model)
    values = some(max(at.values()) + 1)
    with torch.no_grad():
        with model.mode("base"):
            base = model(input_ids=IDS).logits
        with model.at(values, at):
            outer = model(input_ids=IDS).logits
            with model.mode("base"):
                assert torch.equal(model(input_ids=IDS).logits, base)
            assert torch.equal(model(input_ids=IDS).logits, outer)


def test_one_block_may_stand_in_another(model):
    at = places(model)
    first, second = (some(max(at.values()) + 1, seed) for seed in (1, 2))
    alone = []
    for values in (first, second):
        with torch.no_grad(), model.at(values, at):
            alone.append(model(input_ids=IDS).logits)
    with torch.no_grad(), model.at(first, at):
        with model.at(second, at):
            assert torch.equal(model(input_ids=IDS).logits, alone[1])
        assert torch.equal(model(input_ids=IDS).logits, alone[0])


@pytest.mark.parametrize("mode", ["base", "0.5*all", "mlp"])
def test_it_does_not_matter_which_mode_the_model_was_in(model, mode):
    at = places(model)
    values = some(max(at.values()) + 1)
    found = []
    for before in ("tuned", mode):
        model.set_mode(before)
        with torch.no_grad(), model.at(values, at):
            found.append(model(input_ids=IDS).logits)
    assert torch.equal(*found)


@pytest.mark.parametrize("bias", [True, False])
def test_a_head_of_many_rows_is_as_exact_as_one_of_few(bias):
    """It is made a part at a time."""

    def head():
        return torch.nn.Linear(32, 140_000, bias=bias, dtype=torch.float64)

    torch.manual_seed(0)
    base, tuned = head(), head()
    x = torch.randn(3, 32, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([5, 131_073, 139_999])
    alpha = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    weight = Between.of(base.weight.detach(), tuned.weight.detach(), One(alpha, 0))
    y = torch.nn.functional.linear(x, weight, base.bias)
    torch.nn.functional.cross_entropy(y, targets).backward()
    found = y.detach(), x.grad, alpha.grad
    x.grad = alpha.grad = None
    whole = base.weight.detach() + alpha * (tuned.weight - base.weight).detach()
    y = torch.nn.functional.linear(x, whole, base.bias)
    torch.nn.functional.cross_entropy(y, targets).backward()
    for one, other in zip(found, (y.detach(), x.grad, alpha.grad), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


class Products(TorchDispatchMode):
    """The shapes of all matrix products."""

    def __init__(self):
        super().__init__()
        self.shapes = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.bmm, torch.ops.aten.addmm):
            self.shapes.add(tuple(out.shape))
        return out


@pytest.mark.parametrize("family", ["llama", "tied-llama", "gpt2"])
def test_no_gradient_of_a_weight_is_made(family):
    base, tuned = double(family)
    shapes = {tuple(p.shape) for p in base.parameters() if p.dim() == 2}
    shapes |= {shape[::-1] for shape in shapes}
    plain = exact(tiny_adapters.model(family))
    with Products() as ordinary:
        measure(plain).backward()
    assert ordinary.shapes & shapes, "the control: an ordinary gradient is seen"
    model = SwitchableModel.wrap(base, tuned)
    at = places(model)
    values = some(len(at)).requires_grad_()
    with model.at(values, at), Products() as found:
        measure(model).backward()
    assert values.grad.abs().min() > 0
    assert not found.shapes & shapes


def test_a_cache_that_was_filled_at_such_alphas_fits_no_mode():
    model = of_lora("llama")
    at = places(model)
    with torch.no_grad():
        with model.at(torch.ones(len(at)), at):
            out = model(input_ids=IDS, use_cache=True)
        cache = {switchables.CACHE: out[switchables.CACHE]}
        with pytest.raises(RunError, match="filled in another mode"):
            model(input_ids=IDS[:, :1], **cache)


def test_dora_is_no_part_that_can_be_scaled():
    model = of_lora("llama", use_dora=True)
    assert not any(part.scales for part in model.changed)
    name = model.changed[0].name
    with (
        pytest.raises(InputError, match=f"{re.escape(name)} .* is scaled in no live model"),
        model.at(torch.ones(1), {name: 0}),
    ):
        pass


def test_a_module_saved_whole_is_no_part_that_can_be_scaled():
    with tiny_adapters.quiet():
        model = of_lora("llama", modules_to_save=["lm_head"], target_modules=["q_proj"])
    assert {part.name: part.scales for part in model.changed}["lm_head.weight"] is False
    assert all(part.scales for part in model.changed if "q_proj" in part.name)


@pytest.mark.parametrize("name", ["model.norm.weight", "no.such.weight", ""])
def test_a_name_that_is_no_part_is_refused(name):
    model = of_lora("llama")
    with (
        pytest.raises(InputError, match="is no part of the update"),
        model.at(torch.ones(1), {name: 0}),
    ):
        pass


@pytest.mark.parametrize(
    ("shape", "place"), [((3,), 3), ((3,), -1), ((0,), 0), ((2, 2), 0), ((), 0)]
)
def test_a_place_outside_of_the_values_is_refused(shape, place):
    with pytest.raises(InputError, match=r"number -?\d+ of a tensor of"):
        Alphas(torch.zeros(shape), {"x": place})


def test_a_router_is_not_parted_from_its_experts():
    model = MODELS["molora"]()
    at = places(model)
    router = next(part for part in model.changed if part.follows)
    with (
        pytest.raises(InputError, match="one is nothing without the other"),
        model.at(torch.ones(len(at)), at | {router.name: at[router.follows] - 1}),
    ):
        pass
    assert model.current == "tuned"


def test_a_base_model_alone_has_no_parts():
    model = SwitchableModel.wrap(tiny_adapters.model("llama"))
    assert [*model.changed] == []
    with model.at(torch.zeros(0), {}), torch.no_grad():
        assert torch.equal(model(input_ids=IDS).logits, tiny_adapters.model("llama")(IDS).logits)
