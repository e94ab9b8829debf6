"""L2 and EWC against the dense formula, for every way a weight can train."""

import copy
import weakref

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import tiny_models
from taia.errors import AdapterError, DataError, InputError, MismatchError, RunError
from taia.training.baselines.regularisers import ewc, fisher, l2

KINDS = {
    "full": None,
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "norms too": {"modules_to_save": ["norm"]},
    "biases too": {"bias": "lora_only"},
    "embedding": {"target_modules": ["embed_tokens", "q_proj"]},
    "one layer": {"target_modules": ["q_proj"], "layers_to_transform": [1]},
}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}


def base(kind="llama"):
    made = (
        tiny_models.llama(attention_bias=True)
        if kind == "llama"
        else tiny_models.model("gpt2", vocab_size=tiny_models.VOCABULARY, **GPT2)
    )
    return made.double()


def adapted(model, **options):
    torch.manual_seed(3)
    config = {"target_modules": "all-linear", "r": 4, "lora_alpha": 6, **options}
    return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **config)).double()


def moved(model, by=0.1):
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += by * torch.randn_like(parameter)
    return model


def made(kind, architecture="llama"):
    options = KINDS[kind]
    plain = base(architecture)
    return plain if options is None else adapted(plain, **options)


def merged(model):
    """Every weight of the model that the adapters stand for, as PEFT merges it."""
    model = copy.deepcopy(model)
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    return dict(model.named_parameters())


def dense(model, start, importance=None):
    """The formula, on merged weights."""
    return sum(
        ((weight - start[name]).square() * (importance[name] if importance else 1)).sum()
        for name, weight in merged(model).items()
    )


def importances():
    torch.manual_seed(9)
    return {name: torch.rand_like(weight) for name, weight in base().named_parameters()}


@pytest.mark.parametrize("kind", KINDS)
def test_zero_at_the_start_and_the_dense_formula_after(kind):
    model, start, importance = made(kind), dict(base().named_parameters()), importances()
    two = l2(model, 0.7), ewc(model, 0.7, importance)
    assert all(each.penalty(model).item() == pytest.approx(0, abs=1e-20) for each in two)
    moved(model)
    first, second = (each.penalty(model).item() for each in two)
    assert first == pytest.approx(0.7 * float(dense(model, start)), rel=1e-10)
    assert second == pytest.approx(0.7 * float(dense(model, start, importance)), rel=1e-10)
    assert first > second > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("importance", [None, importances()], ids=["l2", "ewc"])
def test_the_gradient_is_the_dense_formulas_slope(kind, importance):
    """Along a random direction, against central differences of the merged model's distance."""
    model, start = made(kind), dict(base().named_parameters())
    regulariser = l2(model, 1.0) if importance is None else ewc(model, 1.0, importance)
    trained = [p for p in moved(model).parameters() if p.requires_grad]
    gradients = torch.autograd.grad(regulariser.penalty(model), trained)
    assert all(gradient.abs().max() > 0 for gradient in gradients)
    torch.manual_seed(13)
    directions = [torch.randn_like(p) for p in trained]
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
    step, values = 1e-5, []
    for sign in (step, -2 * step):
        with torch.no_grad():
            for parameter, direction in zip(trained, directions, strict=True):
                parameter += sign * direction
        values.append(float(dense(model, start, importance)))
    assert slope == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-6)


def test_lora_gradients_equal_autograd_through_pefts_own_update():
    model, importance = moved(made("lora")), importances()
    layers = {
        name.removeprefix("base_model.model."): module
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight")
    }
    trained = [p for p in model.parameters() if p.requires_grad]
    for regulariser, weights in ((l2(model, 2.0), None), (ewc(model, 2.0, importance), importance)):
        total = sum(
            (
                module.get_delta_weight("default").square()
                * (weights[f"{name}.weight"] if weights else 1)
            ).sum()
            for name, module in layers.items()
        )
        expected = torch.autograd.grad(2.0 * total, trained)
        found = torch.autograd.grad(regulariser.penalty(model), trained)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_transposed_weights_have_their_fisher_the_right_way_round():
    """GPT-2 keeps its weights as (in, out)."""
    plain = base("gpt2")
    torch.manual_seed(1)
    importance = {name: torch.rand_like(weight) for name, weight in plain.named_parameters()}
    start = {name: weight.clone() for name, weight in plain.named_parameters()}
    model = adapted(plain, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True)
    regulariser = ewc(model, 1.0, importance)
    moved(model)
    assert float(regulariser.penalty(model)) == pytest.approx(
        float(dense(model, start, importance)), rel=1e-10
    )


def test_two_active_adapters_count_as_their_sum():
    model, start = made("lora"), dict(base().named_parameters())
    model.add_adapter("other", LoraConfig(target_modules=["q_proj"], r=2))
    model.base_model.set_adapter(["default", "other"])
    moved(model.double())
    assert float(l2(model, 1.0).penalty(model)) == pytest.approx(
        float(dense_of_both(model, start)), rel=1e-9
    )


def dense_of_both(model, start):
    model = copy.deepcopy(model).merge_and_unload(adapter_names=["default", "other"])
    return sum((w - start[n]).square().sum() for n, w in model.named_parameters())


@pytest.mark.parametrize("regulariser", ["l2", "ewc"])
def test_no_strength_changes_no_bit_of_training(regulariser):
    def train(penalised):
        model = made("lora").float()
        term = l2(model, 0.0) if regulariser == "l2" else ewc(model, 0.0, importances())
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
        for _ in range(3):
            loss = model(**examples(2)).loss
            (loss + term.penalty(model) if penalised else loss).backward()
            optimizer.step()
            optimizer.zero_grad()
        return [p.detach() for p in model.parameters() if p.requires_grad]

    assert all(torch.equal(a, b) for a, b in zip(train(True), train(False), strict=True))


@pytest.mark.parametrize("strength", [0.1, 1.0, 10.0])
def test_training_ends_where_the_quadratics_optimum_is(strength):
    """Minimise ½ Σ h (θ − t)² + λ Σ F (θ − θ₀)²: the optimum is (h t + 2λF θ₀) / (h + 2λF)."""
    torch.manual_seed(2)
    start, target, h, importance = torch.rand(4, 6).double()
    model = nn.Linear(6, 1, bias=False).double()
    model.weight.data = start[None].clone()
    regulariser = ewc(model, strength, {"weight": importance[None]})
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=50, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        total = 0.5 * (h * (model.weight[0] - target).square()).sum() + regulariser.penalty(model)
        total.backward()
        return total

    optimizer.step(loss)
    pull = 2 * strength * importance
    torch.testing.assert_close(
        model.weight[0].detach(), (h * target + pull * start) / (h + pull), rtol=1e-4, atol=1e-4
    )


def test_bf16_parameters_are_summed_in_float32():
    model = nn.Linear(4096, 64, bias=False).bfloat16()
    nn.init.ones_(model.weight)
    regulariser = l2(model, 1.0)
    assert regulariser.base["weight"].dtype == torch.bfloat16
    model.weight.data += 1 / 128
    penalty = regulariser.penalty(model)
    penalty.backward()
    assert penalty.dtype == torch.float32
    assert float(penalty) == pytest.approx(4096 * 64 / 128**2, rel=1e-6)
    assert torch.equal(model.weight.grad, torch.full_like(model.weight, 2 / 128))


def test_accumulated_over_batches_it_is_the_gradient_of_one():
    model = moved(made("lora"))
    regulariser = l2(model, 0.5)
    trained = [p for p in model.parameters() if p.requires_grad]
    whole, parts = examples(4), [examples(4, rows=slice(i, i + 1)) for i in range(4)]
    expected = torch.autograd.grad(model(**whole).loss + regulariser.penalty(model), trained)
    for part in parts:
        ((model(**part).loss + regulariser.penalty(model)) / len(parts)).backward()
    for parameter, gradient in zip(trained, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-9, atol=1e-12)


class _Alive(TorchDispatchMode):
    """The most results of a size that existed at once, besides what there was before."""

    def __init__(self, size, before):
        super().__init__()
        self.size, self.alive, self.most = size, {}, 0
        self.before = {each.untyped_storage()._cdata for each in before}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.numel() >= self.size:
            storage = result.untyped_storage()
            key = storage._cdata
            if key not in self.alive and key not in self.before:
                self.alive[key] = weakref.ref(result, lambda _: self.alive.pop(key, None))
            self.most = max(self.most, len(self.alive))
        return result


@pytest.mark.parametrize("kind", ["full", "lora", "ewc", "dora"])
def test_memory_does_not_grow_with_the_number_of_layers(kind):
    def most(layers):
        model = nn.Sequential(*(nn.Linear(32, 32, bias=False) for _ in range(layers)))
        importance = {f"{i}.weight": torch.rand(32, 32) for i in range(layers)}
        if kind != "full":
            names = [str(i) for i in range(layers)]
            config = LoraConfig(r=2, target_modules=names, use_dora=kind == "dora")
            model = get_peft_model(model, config)
        term = ewc(model, 1.0, importance) if kind == "ewc" else l2(model, 1.0)
        moved(model)
        trained = [p for p in model.parameters() if p.requires_grad]
        for parameter in trained:
            parameter.grad = torch.zeros_like(parameter)
        kept = [*model.parameters(), *(p.grad for p in trained), *importance.values()]
        with _Alive(32 * 32, kept) as seen:
            term.penalty(model).backward()
        return seen.most

    two, eight = most(2), most(8)
    assert eight == two
    assert (two == 0) == (kind == "lora")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"lora_bias": True}, "bias"),
        ({"trainable_token_indices": [1]}, "rows"),
    ],
)
def test_adapters_whose_distance_is_unknown_are_refused(options, why):
    model = adapted(base().float(), **options)
    with pytest.raises(AdapterError, match=why):
        l2(model, 1.0)


def test_other_tuners_and_merged_adapters_are_refused():
    from peft import LoHaConfig

    other = get_peft_model(base(), LoHaConfig(target_modules=["q_proj"], r=2))
    with pytest.raises(AdapterError, match="no LoRA"):
        l2(other, 1.0)
    model = made("lora")
    model.merge_adapter()
    with pytest.raises(AdapterError, match="merged"):
        l2(model, 1.0)


def test_what_cannot_be_used_is_named():
    model, importance = made("lora"), importances()
    with pytest.raises(InputError, match="strength"):
        l2(model, -1.0)
    with pytest.raises(InputError, match="strength"):
        l2(model, float("nan"))
    name = "model.layers.0.self_attn.q_proj.weight"
    with pytest.raises(MismatchError, match=name):
        ewc(model, 1.0, {k: v for k, v in importance.items() if k != name})
    with pytest.raises(MismatchError, match=name):
        ewc(model, 1.0, importance | {name: torch.ones(3)})
    with pytest.raises(InputError, match="Nothing"):
        l2(base().requires_grad_(False), 1.0)
    full = base()
    full.lm_head.requires_grad_(False)
    regulariser = l2(full, 1.0)
    full.lm_head.requires_grad_(True)
    with pytest.raises(MismatchError, match=r"lm_head\.weight"):
        regulariser.penalty(full)


def examples(count, rows=slice(None), length=9):
    torch.manual_seed(21)
    ids = torch.randint(0, 256, (count, length))[rows]
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.clone()}


@pytest.mark.parametrize("per", ["example", "batch"])
def test_fisher_is_the_mean_squared_gradient(per):
    model = base()
    batches = [examples(3), examples(3, length=6)]
    found = fisher(model, batches, per=per)
    samples = [
        {key: value[i : i + 1] if per == "example" else value for key, value in batch.items()}
        for batch in batches
        for i in range(3 if per == "example" else 1)
    ]
    expected = {name: 0 for name, _ in model.named_parameters()}
    for sample in samples:
        model.zero_grad()
        model(**sample).loss.backward()
        for name, parameter in model.named_parameters():
            expected[name] = expected[name] + parameter.grad**2 / len(samples)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-15)


def test_fisher_per_batch_is_smaller_where_examples_disagree():
    one = fisher(base(), [examples(4)])
    other = fisher(base(), [examples(4)], per="batch")
    assert sum(v.sum() for v in other.values()) < 0.7 * sum(v.sum() for v in one.values())


@pytest.mark.parametrize("kind", ["lora", "norms too", "embedding"])
def test_fisher_of_a_model_with_adapters_is_its_bases(kind):
    plain, model = base(), moved(made(kind)).train()
    model.zero_grad()
    kept = torch.ones_like(plain.lm_head.weight)
    model.base_model.model.lm_head.weight.grad = kept
    before = {n: (p.requires_grad, p.detach().clone()) for n, p in model.named_parameters()}
    told = []
    found = fisher(model, [examples(2)], told.append)
    assert told == [1, 2]
    expected = fisher(plain, [examples(2)])
    assert found
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-9, atol=1e-15)
    ewc(model, 1.0, found).penalty(model)
    assert model.training
    assert model.base_model.model.lm_head.weight.grad is kept
    assert torch.equal(kept, torch.ones_like(kept))
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == before[name][0]
        assert torch.equal(parameter, before[name][1])
    again = model(**examples(2)).logits
    model.disable_adapter_layers()
    assert not torch.equal(again, model(**examples(2)).logits), "the adapters are on again"


def test_fisher_says_what_is_wrong_with_its_data():
    no_answer = examples(2)
    no_answer["labels"][1, 1:] = -100
    with pytest.raises(DataError, match="Batch 2, row 2"):
        fisher(base(), [examples(2), no_answer])
    with pytest.raises(DataError, match="no data"):
        fisher(base(), [])
    with pytest.raises(DataError, match="no labels"):
        fisher(base(), [{"input_ids": torch.ones(1, 2, dtype=torch.long)}])
    broken = base()
    broken.lm_head.weight.data[:] = float("inf")
    with pytest.raises(RunError, match="example 1"):
        fisher(broken, [examples(1)])


def test_wrappers_change_nothing():
    model = made("full")
    regulariser = l2(model, 1.0)
    moved(model)
    wrapped = nn.Module()
    wrapped.module = model
    assert float(regulariser.penalty(wrapped)) == float(regulariser.penalty(model)) > 0
