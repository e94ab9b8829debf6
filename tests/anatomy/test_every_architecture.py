"""Every causal language model of the installed transformers, on the meta device.

The oracle is independent of the vocabulary: it knows classes, which anatomy never sees, and no
names.
"""

import re

import pytest
from torch import nn

import make_architectures
import zoo
from taia.anatomy import Anatomy, TensorInfo
from taia.anatomy.components import COMPONENTS

_ATTENTION = re.compile(r"Attention|Attn|Mamba|Mixer|ShortConv|DeltaNet|mLSTM|RecurrentBlock")
_FEED_FORWARD = re.compile(r"MLP|Mlp|FeedForward|FFN|MoE|Moe|Experts|Router|Intermediate$")
_WHOLE = re.compile(r"(Layer|Block|Model|CausalLM|LMHead\w*|Encoder|Decoder|Generation)$")
_NOT_WHOLE = re.compile(r"(AttentionBlock|MoeBlock|RecurrentBlock|mLSTMBlock|FFNBlock|Moe?Layer)$")

FEED_FORWARD = {"mlp", "experts", "shared_experts", "router"}
#: What stands inside attention or a feed-forward block without being part of it.
ELSEWHERE = {"norm", "residual", "vision", "audio", "projector", "embedding"}


def class_says(model: nn.Module, name: str) -> str | None:
    """ "attention" or "feed-forward", by the classes of the modules that hold a tensor."""
    module = model
    for part in name.split(".")[:-1]:
        module = getattr(module, part)
        kind = type(module).__name__
        if kind.endswith("Norm") or "RMSNorm" in kind:
            return None
        if _WHOLE.search(kind) and not _NOT_WHOLE.search(kind):
            continue
        if _ATTENTION.search(kind):
            return "attention"
        if _FEED_FORWARD.search(kind):
            return "feed-forward"
    return None


@pytest.fixture(scope="module", params=zoo.model_types())
def specimen(request):
    """One architecture after another; pytest runs all tests of one before it builds the next."""
    return zoo.build(request.param)


def test_labels_every_tensor_once_and_as_its_class_says(specimen):
    anatomy = Anatomy.of_model(specimen.model)

    assert list(anatomy) == list(specimen.runtime())
    assert {label.component for label in anatomy.values()} <= set(COMPONENTS)
    for name, label in anatomy.items():
        says = class_says(specimen.model, name)
        if says is None or label.component in ELSEWHERE:
            continue
        mine = "feed-forward" if label.component in FEED_FORWARD else label.component
        assert mine == says, name


def test_labels_checkpoint_names_like_runtime_names(specimen):
    config = specimen.model.config.to_dict()
    on_disk = [TensorInfo(n, tuple(t.shape)) for n, t in specimen.on_disk().items()]
    saved = Anatomy.of_tensors(on_disk, config)
    live = Anatomy.of_model(specimen.model)

    assert list(saved) == [tensor.name for tensor in on_disk]
    assert _elements(saved) == _elements(live)
    for name in saved.keys() & live.keys():
        assert saved[name].component == live[name].component, name


def _elements(anatomy):
    """Elements in attention and in feed-forward blocks: the same weights under either name."""
    sums = {"attention": 0, "feed-forward": 0}
    for label in anatomy.values():
        count = 1
        for size in label.tensor.shape:
            count *= size
        if label.component == "attention":
            sums["attention"] += count
        elif label.component in FEED_FORWARD:
            sums["feed-forward"] += count
    return sums


def test_has_both_halves_or_the_table_says_why_not(specimen):
    assert make_architectures.row(specimen) in make_architectures.PAGE.read_text("utf-8")


def test_the_oracle_has_an_opinion():
    model = zoo.build("llama").model
    opinions = [class_says(model, name) for name in model.state_dict()]
    layers = model.config.num_hidden_layers
    assert opinions.count("attention") == 4 * layers
    assert opinions.count("feed-forward") == 3 * layers


def test_layers_count_every_layer_from_zero():
    anatomy = Anatomy.of_model(zoo.build("llama").model)
    layers = {label.layer for label in anatomy.values()} - {None}
    assert layers == set(range(zoo.build("llama").model.config.num_hidden_layers))
