"""A compiled model changes mode as any other does."""

import pytest
import torch

import tiny_models
from switchables import CACHE, IDS, logits, noisy
from taia import SwitchableModel
from taia.errors import RunError
from tiny_molora import molora

pytestmark = pytest.mark.slow


def _llama():
    return tiny_models.llama(num_hidden_layers=1)


MAKE = {
    "lora": lambda: SwitchableModel.wrap(tiny_models.lora(_llama())),
    "molora": lambda: SwitchableModel.wrap(molora(_llama())),
    "checkpoint": lambda: SwitchableModel.wrap(_llama(), noisy(_llama())),
}


@pytest.fixture(autouse=True)
def _forget():
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("kind", MAKE)
def test_a_switch_takes_effect_after_compiling(kind):
    model = MAKE[kind]()
    modes = ("tuned", "base", "taia", "tuned")
    wanted = [_in(model, mode) for mode in modes]
    model.model.compile(backend="eager")
    for mode, plain in zip(modes, wanted, strict=True):
        torch.testing.assert_close(_in(model, mode), plain)
    assert not torch.allclose(wanted[0], wanted[2], atol=1e-3)


def test_rows_take_effect_after_compiling():
    model = MAKE["lora"]()
    wanted = logits(model, modes=["base", "taia"])
    model.model = torch.compile(model.model, backend="eager")
    torch.testing.assert_close(logits(model, modes=["base", "taia"]), wanted)
    assert not torch.allclose(logits(model), wanted, atol=1e-3)


def test_more_modes_than_dynamo_compiles_for_are_right_all_the_same():
    model = MAKE["lora"]()
    modes = [f"{tenths / 10}*mlp" for tenths in range(1, 5)]
    wanted = [_in(model, mode) for mode in modes]
    model.model.compile(backend="eager")
    with torch._dynamo.config.patch(recompile_limit=2):
        for mode, plain in zip(modes, wanted, strict=True):
            torch.testing.assert_close(_in(model, mode), plain)


def test_a_cache_of_another_mode_is_refused_after_compiling():
    model = MAKE["lora"]()
    with model.mode("taia"):
        cache = model(IDS, use_cache=True)[CACHE]
    model.model.compile(backend="eager")
    with pytest.raises(RunError, match="another mode"):
        model(IDS[:, :1], **{CACHE: cache})


def _in(model, mode):
    with model.mode(mode):
        return logits(model)
