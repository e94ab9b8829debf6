"""A KV cache belongs to the mode that filled it."""

import copy
import inspect
import logging
import warnings

import pytest
import torch
import transformers
from transformers import DynamicCache, EncoderDecoderCache, StaticCache

import tiny_adapters
import tiny_models
from switchables import CACHE, IDS, adapted, logits, noisy, pair
from taia import SwitchableModel
from taia.errors import RunError
from taia.runtime.engine import Engine
from taia.runtime.forward import can_share
from taia.runtime.generation import Generation
from taia.runtime.likelihood import likelihoods
from taia.runtime.rating import Request

pytestmark = pytest.mark.versions

MORE = IDS[:, :1]


@pytest.fixture(params=["adapter", "checkpoint"])
def model(request):
    return (
        pair("llama") if request.param == "checkpoint" else SwitchableModel.wrap(adapted("llama"))
    )


@torch.no_grad()
def fill(model, mode, cache=None):
    with model.mode(mode):
        return model(IDS, use_cache=True, **{CACHE: cache})[CACHE]


@pytest.mark.parametrize("way", ["call", "model", "body", "generate"])
def test_a_cache_of_another_mode_is_refused(model, way):
    cache = fill(model, "taia")
    plain = model.model.get_base_model() if hasattr(model.model, "get_base_model") else model.model
    ways = {
        "call": lambda: model(MORE, **{CACHE: cache}),
        "model": lambda: model.model(input_ids=MORE, **{CACHE: cache}),
        "body": lambda: plain.model(input_ids=MORE, **{CACHE: cache}),
        "generate": lambda: model.generate(
            torch.cat([IDS, MORE], 1), max_new_tokens=1, pad_token_id=2, **{CACHE: cache}
        ),
    }
    before = cache.get_seq_length()
    with pytest.raises(RunError, match="another mode"):
        ways[way]()
    assert cache.get_seq_length() == before, "it was filled all the same"
    with model.mode("taia"):
        ways[way]()


def test_a_copy_of_a_cache_is_refused_too(model):
    cache = copy.deepcopy(fill(model, "taia"))
    with pytest.raises(RunError, match="another mode"):
        model(MORE, **{CACHE: cache})


def test_what_fits_goes_on(model):
    with model.mode("taia"):
        whole = logits(model, torch.cat([IDS, MORE], 1))[:, -1]
    cache = fill(model, "taia")
    with model.mode("all - mlp"):  # the same thing by another name
        found = logits(model, MORE, **{CACHE: cache})[:, -1]
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
    fresh.crop(-IDS.shape[1])
    fill(model, "tuned", fresh)


def test_a_cache_made_beside_it_is_trusted_once(model):
    """One that no watched pass filled has no mark; from then on it has."""
    base = tiny_adapters.model("llama")
    cache = base(IDS, use_cache=True)[CACHE]
    with model.mode("base"):
        model(MORE, **{CACHE: cache})
    with pytest.raises(RunError, match="another mode"):
        model(MORE, **{CACHE: cache})


def test_rows_have_a_cache_each():
    model = SwitchableModel.wrap(adapted("llama"))
    modes = ["base", "taia"]
    with torch.no_grad():
        cache = model(IDS, modes=modes, use_cache=True)[CACHE]
    for others in (["taia", "base"], ["base", "base"], None):
        with pytest.raises(RunError, match="another mode"):
            model(MORE, modes=others, **{CACHE: cache})
    whole = logits(model, torch.cat([IDS, MORE], 1), modes=modes)[:, -1]
    found = logits(model, MORE, modes=modes, **{CACHE: copy.deepcopy(cache)})[:, -1]
    torch.testing.assert_close(found, whole)
    cache.batch_select_indices(torch.tensor([1, 0]))
    model.filled(cache, ["taia", "base"])
    swapped = logits(model, MORE[[1, 0]], modes=["taia", "base"], **{CACHE: cache})[:, -1]
    torch.testing.assert_close(swapped, whole[[1, 0]])


def test_a_cache_of_one_mode_is_one_of_rows_in_it():
    model = SwitchableModel.wrap(adapted("llama"))
    cache = fill(model, "taia")
    with pytest.raises(RunError, match="another mode"):
        model(MORE, modes=["taia", "base"], **{CACHE: cache})
    model(MORE, modes=["taia", "taia"], **{CACHE: cache})


#: Every kind of state that a pass can go on from → the architecture, tiny.
_STATES = {
    "keys and values": ("llama", tiny_models.LLAMA),
    "Conv1D": ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 260}),
    "recurrent": ("mamba", {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 260}),
    "hybrid": (
        "jamba",
        {**tiny_models.LLAMA, "attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 2}
        | {"use_mamba_kernels": False},
    ),
    "encoder and decoder": (
        "bart",
        {"d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 4, "vocab_size": 260}
        | {"decoder_ffn_dim": 48, "is_decoder": True, "is_encoder_decoder": False},
    ),
    "tensors": ("rwkv", {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 260}),
}

#: One row: RWKV of transformers 5.24 mixes the rows of a batch that goes on from a state.
ROW = IDS[:1]


@pytest.fixture(params=_STATES)
def stateful(request):
    kind, config = _STATES[request.param]
    base = tiny_models.model(kind, **config)
    return SwitchableModel.wrap(base, noisy(copy.deepcopy(base), "."))


@torch.no_grad()
def state(model, mode):
    """What a pass in a mode leaves, and what this version calls it where it is given back."""
    with model.mode(mode):
        out = model(ROW, use_cache=True)
    takes = inspect.signature(model.model.forward).parameters
    (value,) = (out[key] for key in out if "cache" in key or key in ("past_key_values", "state"))
    names = ("cache", "past_key_values", "cache_params", "state")
    return value, next(name for name in names if name in takes)


def test_every_kind_of_state_is_refused_in_another_mode_and_goes_on_in_its_own(stateful):
    with stateful.mode("tuned"):
        whole = logits(stateful, torch.cat([ROW, ROW[:, :1]], 1))[:, -1]
    value, name = state(stateful, "tuned")
    for given in (value, copy.deepcopy(value)):
        with stateful.mode("base"), pytest.raises(RunError, match="another mode"):
            stateful(ROW[:, :1], use_cache=True, **{name: given})
        inner = stateful.model.base_model
        with stateful.mode("base"), pytest.raises(RunError, match="another mode"):
            inner(ROW[:, :1], use_cache=True, **{name: given})
    with stateful.mode("tuned"):
        torch.testing.assert_close(
            logits(stateful, ROW[:, :1], use_cache=True, **{name: value})[:, -1], whole
        )


def test_a_reset_recurrent_cache_fits_every_mode():
    kind, config = _STATES["recurrent"]
    base = tiny_models.model(kind, **config)
    model = SwitchableModel.wrap(base, noisy(copy.deepcopy(base), "."))
    cache, name = state(model, "tuned")
    cache.reset()
    with model.mode("base"):
        logits(model, ROW, use_cache=True, **{name: cache})
    with model.mode("tuned"), pytest.raises(RunError, match="another mode"):
        model(ROW[:, :1], use_cache=True, **{name: cache})


@pytest.mark.parametrize("name", ["cache", "past_key_values", "cache_params", "memory"])
def test_a_cache_is_known_by_its_type_under_any_name(model, name):
    cache = fill(model, "taia")
    for arguments in ({name: cache}, {name: [cache]}, {name: {"inner": (cache,)}}):
        with pytest.raises(RunError, match="another mode"):
            model(MORE, **arguments)
        with pytest.raises(RunError, match="another mode"):
            model.generate(MORE, max_new_tokens=1, **arguments)


def test_a_cache_is_known_where_it_is_given_by_place(model):
    cache = fill(model, "taia")
    plain = model.model.get_base_model() if hasattr(model.model, "get_base_model") else model.model
    order = list(inspect.signature(plain.forward).parameters)
    at = next(order.index(name) for name in ("cache", "past_key_values") if name in order)
    by_place = (MORE, *[None] * (at - 1), cache)
    for call in (model, plain, plain.base_model):
        with pytest.raises(RunError, match="another mode"):
            call(*by_place)
    with model.mode("taia"):
        plain(*by_place)


def test_a_cache_inside_a_cache_is_of_the_mode_that_filled_it(model):
    cache = fill(model, "taia")
    both = EncoderDecoderCache(cache, DynamicCache())
    with pytest.raises(RunError, match="another mode"):
        model(MORE, **{CACHE: both})


def test_the_decoder_of_a_model_of_several_is_watched_too():
    kind, config = _STATES["encoder and decoder"]
    base = tiny_models.model(kind, **config)
    model = SwitchableModel.wrap(base, noisy(copy.deepcopy(base), "."))
    cache, name = state(model, "tuned")
    with model.mode("base"), pytest.raises(RunError, match="another mode"):
        model.model.get_decoder()(input_ids=ROW[:, :1], use_cache=True, **{name: cache})


def test_nothing_of_ours_calls_a_cache_by_a_name_that_is_going(stateful, caplog):
    logger = logging.getLogger("transformers")
    transformers.utils.logging.warning_once.cache_clear()  # it says a thing once a process
    logger.addHandler(caplog.handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)
            share = can_share(stateful.model)
            likelihoods(stateful.model, [Request((1, 2, 3), ((4, 5), (6,)))], share=share)
            engine = Engine(stateful, tiny_models.tokenizer())
            asked = [Generation(mode, (1, 2, 3), 3) for mode in ("tuned", "base")]
            assert len(list(engine.generate(asked))) == 2
    finally:
        logger.removeHandler(caplog.handler)
    assert "deprecated" not in caplog.text
