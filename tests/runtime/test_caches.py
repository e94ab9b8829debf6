"""A KV cache belongs to the mode that filled it."""

import copy

import pytest
import torch
from transformers import DynamicCache, StaticCache

import tiny_models
from switchables import IDS, adapted, logits, pair
from taia import SwitchableModel
from taia.errors import RunError

MORE = IDS[:, :1]


@pytest.fixture(params=["adapter", "checkpoint"])
def model(request):
    return pair("llama") if request.param == "checkpoint" else SwitchableModel.wrap(adapted("llama"))


@torch.no_grad()
def fill(model, mode, cache=None):
    with model.mode(mode):
        return model(IDS, past_key_values=cache, use_cache=True).past_key_values


@pytest.mark.parametrize("way", ["call", "model", "body", "generate"])
def test_a_cache_of_another_mode_is_refused(model, way):
    cache = fill(model, "taia")
    plain = model.model.get_base_model() if hasattr(model.model, "get_base_model") else model.model
    ways = {
        "call": lambda: model(MORE, past_key_values=cache),
        "model": lambda: model.model(input_ids=MORE, past_key_values=cache),
        "body": lambda: plain.model(input_ids=MORE, past_key_values=cache),
        "generate": lambda: model.generate(
            torch.cat([IDS, MORE], 1), past_key_values=cache, max_new_tokens=1, pad_token_id=2
        ),
    }
    before = cache.get_seq_length()
    for twin in (cache, copy.deepcopy(cache)):
        assert twin.get_seq_length() == before
    with pytest.raises(RunError, match="another mode"):
        ways[way]()
    assert cache.get_seq_length() == before, "it was filled all the same"
    with model.mode("taia"):
        ways[way]()


def test_a_copy_of_a_cache_is_refused_too(model):
    cache = copy.deepcopy(fill(model, "taia"))
    with pytest.raises(RunError, match="another mode"):
        model(MORE, past_key_values=cache)


def test_what_fits_goes_on(model):
    with model.mode("taia"):
        whole = logits(model, torch.cat([IDS, MORE], 1))[:, -1]
    cache = fill(model, "taia")
    with model.mode("all - mlp"):  # the same thing by another name
        found = logits(model, MORE, past_key_values=cache)[:, -1]
    torch.testing.assert_close(found, whole)


def test_an_emptied_cache_fits_every_mode(model):
    cache = StaticCache(config=model.config, max_cache_len=32)
    fill(model, "taia", cache)
    with pytest.raises(RunError, match="another mode"):
        fill(model, "base", cache)
    cache.reset()
    fill(model, "base", cache)
    fresh = DynamicCache(config=model.config)
    assert fill(model, "base", fresh) is fresh
    fresh.crop(0)
    fill(model, "tuned", fresh)


def test_a_cache_made_beside_it_is_trusted_once(model):
    """One that no watched pass filled has no mark; from then on it has."""
    base = tiny_models.llama(vocab_size=64, num_hidden_layers=3)
    cache = base(IDS, use_cache=True).past_key_values
    with model.mode("base"):
        model(MORE, past_key_values=cache)
    with pytest.raises(RunError, match="another mode"):
        model(MORE, past_key_values=cache)


def test_rows_have_a_cache_each():
    model = SwitchableModel.wrap(adapted("llama"))
    modes = ["base", "taia"]
    cache = model(IDS, modes=modes, use_cache=True).past_key_values
    for others in (["taia", "base"], ["base", "base"], None):
        with pytest.raises(RunError, match="another mode"):
            model(MORE, modes=others, past_key_values=cache)
    whole = logits(model, torch.cat([IDS, MORE], 1), modes=modes)[:, -1]
    found = logits(model, MORE, modes=modes, past_key_values=copy.deepcopy(cache))[:, -1]
    torch.testing.assert_close(found, whole)
    cache.batch_select_indices(torch.tensor([1, 0]))
    model.filled(cache, ["taia", "base"])
    swapped = logits(model, MORE, modes=["taia", "base"], past_key_values=cache)[:, -1]
    torch.testing.assert_close(swapped, whole[[1, 0]])


def test_a_cache_of_one_mode_is_one_of_rows_in_it():
    model = SwitchableModel.wrap(adapted("llama"))
    cache = fill(model, "taia")
    with pytest.raises(RunError, match="another mode"):
        model(MORE, modes=["taia", "base"], past_key_values=cache)
    model(MORE, modes=["taia", "taia"], past_key_values=cache)
