"""Rows of one batch in modes of their own: each is what it would be alone, bit for bit."""

import pytest
import torch
from peft.tuners.lora import LoraLayer

import tiny_models
from switchables import IDS, adapted, logits, pair
from taia import SwitchableModel
from taia.errors import AdapterError, InputError
from taia.runtime.rows import RowScales
from tiny_molora import MEDCARE, molora

MODES = ["tuned", "base", "taif", "taia", "base", "attention + 0.3*mlp"]
BATCH = torch.arange(6 * 12).reshape(6, 12) % 60


def _gpt2_with_embedding():
    return adapted("gpt2", target_modules=["c_attn", "c_proj", "c_fc", "wte"])


MAKE = {
    "lora": lambda: adapted("llama"),
    "rslora bf16": lambda: adapted("llama", use_rslora=True, r=3).to(torch.bfloat16),
    "float32 adapter on bf16": lambda: adapted("tied-llama"),
    "gpt2 with embedding": _gpt2_with_embedding,
    "molora": molora,
    "molora with a shared expert": lambda: molora(**MEDCARE),
}


@pytest.fixture(params=MAKE)
def model(request):
    made = MAKE[request.param]()
    if "on bf16" in request.param:
        for name, parameter in made.named_parameters():
            if "lora_" not in name:
                parameter.data = parameter.data.to(torch.bfloat16)
    return SwitchableModel.wrap(made)


def alone(model, mode, ids=BATCH):
    with model.mode(mode):
        return logits(model, ids)


def test_each_row_is_what_it_is_in_a_batch_of_its_mode(model):
    assert model.can_mix
    mixed = logits(model, BATCH, modes=MODES)
    for row, mode in enumerate(MODES):
        wanted = alone(model, mode)[row]
        assert torch.equal(mixed[row], wanted), mode
        assert torch.equal(torch.signbit(mixed[row]), torch.signbit(wanted)), mode
    assert model.current == "tuned"
    assert torch.equal(logits(model, BATCH), alone(model, "tuned"))


def test_experts_alone_are_rows_too():
    model = SwitchableModel.wrap(molora(**MEDCARE))
    modes = ["shared_experts", "experts + router", "0.5*(experts + router) + attention", "base"]
    mixed = logits(model, BATCH[:4], modes=modes)
    for row, mode in enumerate(modes):
        assert torch.equal(mixed[row], alone(model, mode, BATCH[:4])[row]), mode


def test_a_block_of_rows_holds_until_it_ends():
    model = SwitchableModel.wrap(adapted("llama"))
    with model.rows(["base", "taia"]):
        assert model.current == "base, taia"
        first = logits(model.model)
        with model.mode("tuned"):
            assert torch.equal(logits(model), alone(model, "tuned", IDS))
        assert torch.equal(logits(model), first)
        with pytest.raises(InputError, match="2 modes for a batch of 3 rows"):
            logits(model.model, BATCH[:3])
    assert torch.equal(first[0], alone(model, "base", IDS)[0])
    assert torch.equal(first[1], alone(model, "taia", IDS)[1])
    with pytest.raises(RuntimeError, match="on purpose"), model.rows(["base", "taia"]):
        raise RuntimeError("on purpose")
    assert torch.equal(logits(model), alone(model, "tuned", IDS))


def test_an_update_that_is_not_finite_stays_in_its_rows():
    tuned = adapted("llama")
    for name, parameter in tuned.named_parameters():
        if "down_proj.lora_B" in name:
            parameter.data.fill_(float("inf"))
    model = SwitchableModel.wrap(tuned)
    mixed = logits(model, modes=["base", "tuned"])
    assert mixed[0].isfinite().all()
    assert not mixed[1].isfinite().all()


def test_one_mode_takes_the_ordinary_path():
    model = SwitchableModel.wrap(adapted("llama"))
    with model.rows(["taia", "taia-qkvo"]):
        scales = [
            scale
            for module in model.model.modules()
            if isinstance(module, LoraLayer)
            for scale in module.scaling.values()
        ]
        assert {type(scale) for scale in scales} == {float}
        with pytest.raises(InputError, match="3 rows"):
            logits(model.model, BATCH[:3])


@pytest.mark.parametrize("modes", [["base"], ["base"] * 3, ["base", "taia", "tuned"]])
def test_there_is_one_mode_for_each_row(modes):
    model = SwitchableModel.wrap(adapted("llama"))
    with pytest.raises(InputError, match=f"{len(modes)} modes for a batch of 2 rows"):
        model(IDS, modes=modes)
    with pytest.raises(InputError, match=f"{len(modes)} modes for a batch of 2 rows"):
        model.generate(IDS, modes=modes, max_new_tokens=1, pad_token_id=2)
    with pytest.raises(InputError, match="no modes"):
        model(IDS, modes=[])
    assert model.current == "tuned"


CANNOT = {
    "experts": lambda: SwitchableModel.wrap(adapted("qwen3-moe")),
    "experts see": lambda: SwitchableModel.wrap(adapted("mixtral", target_parameters=None)),
    "not LoRA's plain product": lambda: SwitchableModel.wrap(adapted("llama", use_dora=True)),
    "added to the weight": lambda: SwitchableModel.wrap(
        adapted("llama", target_modules=[], target_parameters=["q_proj.weight"])
    ),
    "one weight for all rows": lambda: pair("llama"),
}


@pytest.mark.parametrize("why", CANNOT)
def test_what_cannot_be_mixed_is_refused_by_name(why):
    model = CANNOT[why]()
    assert not model.can_mix
    before = logits(model)
    with pytest.raises(AdapterError, match=why):
        model(IDS, modes=["base", "tuned"])
    assert torch.equal(logits(model), before)
    assert torch.equal(logits(model, modes=["base", "base"]), alone(model, "base", IDS))


def test_generation_goes_row_by_row():
    model = SwitchableModel.wrap(tiny_models.lora(tiny_models.llama()))
    modes = ["base", "tuned", "taia", "taif"]
    ask = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "pad_token_id": 257}
    ids = IDS[[0, 0, 0, 0]]
    mask = torch.ones_like(ids)
    mixed = model.generate(ids, modes=modes, attention_mask=mask, **ask)
    beams = model.generate(
        ids, modes=modes, attention_mask=mask, num_beams=3, num_return_sequences=2, **ask
    )
    for row, mode in enumerate(modes):
        with model.mode(mode):
            assert torch.equal(model.generate(ids, attention_mask=mask, **ask)[row], mixed[row])
            wanted = model.generate(
                ids, attention_mask=mask, num_beams=3, num_return_sequences=2, **ask
            )
            assert torch.equal(wanted[2 * row : 2 * row + 2], beams[2 * row : 2 * row + 2])
    assert len({tuple(row.tolist()) for row in mixed}) == 4


def test_generation_settings_of_the_models_own_count():
    tuned = tiny_models.lora(tiny_models.llama())
    tuned.generation_config.num_beams = 2
    model = SwitchableModel.wrap(tuned)
    found = model.generate(
        IDS, modes=["base", "taia"], max_new_tokens=2, pad_token_id=257, do_sample=False
    )
    assert found.shape[0] == 2


@pytest.mark.parametrize("grad", [True, False])
def test_flattened_rows_and_those_that_do_not_divide(grad):
    scales = RowScales([2.0, 2.0, 0.0, 0.5])
    update = torch.randn(4, 4, 5)
    update[2, 0] = torch.inf
    wanted = torch.cat([update[:2] * 2.0, torch.full((1, 4, 5), -0.0), update[3:] * 0.5])
    with torch.set_grad_enabled(grad):
        for found in (update * scales, (update.flatten(0, 1) * scales).view(4, 4, 5)):
            assert torch.equal(found, wanted)
            assert torch.equal(found.signbit(), wanted.signbit())
    with pytest.raises(AdapterError, match="10 rows or tokens"):
        torch.randn(10, 5) * scales


def test_gradients_are_those_of_the_rows_alone():
    update = torch.randn(3, 4, requires_grad=True)
    (update * RowScales([2.0, 0.0, 0.5])).sum().backward()
    assert torch.equal(update.grad, torch.tensor([[2.0], [0.0], [0.5]]).expand(3, 4))
