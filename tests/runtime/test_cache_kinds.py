"""Whatever is used as a cache, and whichever module it is given to, it belongs to its mode."""

import copy

import pytest
import torch
from transformers import Cache, DynamicCache, QuantizedCache, StaticCache
from transformers.cache_utils import (
    DynamicSlidingWindowLayer,
    QuantizedLayer,
    StaticSlidingWindowLayer,
)

import tiny_models
from switchables import CACHE, IDS, adapted, logits, noisy
from taia import SwitchableModel
from taia.errors import RunError

pytestmark = pytest.mark.versions

MORE = IDS[:, :1]


class Own(DynamicCache):
    """A user's."""


class OwnAlone(Cache):
    """A user's that makes its own layers."""

    def __init__(self, config):
        super().__init__(layers=copy.deepcopy(DynamicCache(config=config).layers))


class Store:
    """Used as a cache, and neither called nor made one."""

    def __init__(self):
        self._held = DynamicCache()

    def __getattr__(self, name):
        return getattr(self.__dict__["_held"], name)

    def update(self, *args, **options):
        return self._held.update(*args, **options)

    def get_seq_length(self, *args):
        return self._held.get_seq_length(*args)


class Packed(QuantizedLayer):
    """Quantised by no library: what is held is exact."""

    def _quantize(self, tensor, axis):
        return tensor

    def _dequantize(self, packed):
        return packed


class PackedCache(QuantizedCache):
    def __init__(self, layers):
        Cache.__init__(self, layers=[Packed(residual_length=4) for _ in range(layers)])


def sliding(layer, config, **options):
    return Cache(layers=[layer(sliding_window=64, **options) for _ in range(layers_of(config))])


def layers_of(config):
    return config.num_hidden_layers


KINDS = {
    "dynamic": lambda config: DynamicCache(config=config),
    "static": lambda config: StaticCache(config=config, max_cache_len=32),
    "sliding": lambda config: sliding(DynamicSlidingWindowLayer, config),
    "static and sliding": lambda config: sliding(
        StaticSlidingWindowLayer, config, max_cache_len=32
    ),
    "quantised": lambda config: PackedCache(layers_of(config)),
    "a user's": lambda config: Own(config=config),
    "a user's layers": OwnAlone,
    "used as one": lambda config: Store(),
}


@pytest.fixture(scope="module")
def model():
    return SwitchableModel.wrap(adapted("llama"))


def body(model):
    return model.model.get_base_model().model


def step(model, way, cache):
    """One token more, through a module of any depth."""
    inner = body(model)
    if way == "model":
        return model(MORE, **{CACHE: cache}).logits
    if way == "body":
        return inner(MORE, **{CACHE: cache})[0]
    layer = inner.layers[0]
    hidden = inner.embed_tokens(MORE)
    place = torch.full((len(MORE), 1), IDS.shape[1])
    options = {"position_embeddings": inner.rotary_emb(hidden, place), "attention_mask": None}
    found = (layer if way == "layer" else layer.self_attn)(hidden, **options, **{CACHE: cache})
    return found[0] if isinstance(found, tuple) else found


@pytest.mark.parametrize("way", ["model", "body", "layer", "attention"])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_every_kind_of_cache_is_refused_in_another_mode_at_every_depth(model, kind, way):
    def filled(mode):
        cache = KINDS[kind](model.config)
        with model.mode(mode):
            model(IDS, use_cache=True, **{CACHE: cache})
        return cache

    cache = filled("taia")
    length = int(cache.get_seq_length())
    for mode in ("base", "0.5*all"):
        with model.mode(mode), pytest.raises(RunError, match="another mode"):
            step(model, way, cache)
    assert int(cache.get_seq_length()) == length, "it was filled all the same"
    with model.mode("taia"):
        whole = logits(model, torch.cat([IDS, MORE], 1))[:, -1:]
        found = step(model, way, cache)
    if way == "model":
        torch.testing.assert_close(found, whole)
    with model.mode("base"):  # the control: were it let through, other numbers would come
        own = step(model, way, filled("base"))
    assert not torch.allclose(found, own, atol=1e-3)


@pytest.mark.parametrize("way", ["layer", "attention"])
@torch.no_grad()
def test_what_a_module_alone_fills_is_of_its_mode(model, way):
    cache = DynamicCache(config=model.config)
    with model.mode("taia"):
        step(model, way, cache)
    with model.mode("base"), pytest.raises(RunError, match="another mode"):
        step(model, way, cache)
    with model.mode("all - mlp"):
        step(model, way, cache)


@torch.no_grad()
def test_a_cache_that_can_carry_no_mark_is_refused_and_named(model):
    class Closed:
        __slots__ = ()

        def update(self, keys, values, *_args):
            return keys, values

        def get_seq_length(self, *_args):
            return 0

    with pytest.raises(RunError, match="class Closed takes no mark"):
        model(IDS, use_cache=True, **{CACHE: Closed()})


@pytest.fixture(scope="module")
def rwkv():
    base = tiny_models.model("rwkv", hidden_size=32, num_hidden_layers=2, vocab_size=260)
    return SwitchableModel.wrap(base, noisy(copy.deepcopy(base), "."))


@pytest.mark.parametrize("given", ["by name", "by place", "block", "attention"])
@pytest.mark.parametrize("left", ["output", "tuple"])
@torch.no_grad()
def test_a_state_of_tensors_is_known_by_name_by_place_and_from_a_tuple(rwkv, given, left):
    row = IDS[:1]
    inner = rwkv.model.base_model
    ways = {
        "by name": lambda state: inner(row[:, :1], state=state, use_cache=True),
        "by place": lambda state: inner(row[:, :1], None, None, state, True),
        "block": lambda state: inner.blocks[0](inner.embeddings(row[:, :1]), state, True),
        "attention": lambda state: inner.blocks[0].attention(
            inner.embeddings(row[:, :1]), state, True
        ),
    }
    with rwkv.mode("tuned"):
        out = rwkv(row, use_cache=True, return_dict=left == "output")
    state = out.state if left == "output" else out[1]
    with rwkv.mode("base"), pytest.raises(RunError, match="another mode"):
        ways[given](state)
    with rwkv.mode("tuned"):
        ways[given](state)
