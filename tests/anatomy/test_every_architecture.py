"""Every causal language model of the installed transformers, on the meta device.

The oracle is independent of the vocabulary: it knows classes, which anatomy never sees, and no
names.
"""

import re
from functools import lru_cache

import pytest
import transformers
from torch import nn
from transformers.pytorch_utils import Conv1D

import make_architectures
import zoo
from taia.anatomy import Anatomy, TensorInfo, fused
from taia.anatomy.components import COMPONENTS

pytestmark = pytest.mark.versions

_ATTENTION = re.compile(r"Attention|Attn|Mamba|Mixer|ShortConv|DeltaNet|mLSTM|RecurrentBlock")
_FEED_FORWARD = re.compile(r"MLP|Mlp|FeedForward|FFN|MoE|Moe|Experts|Router|Intermediate$")
_WHOLE = re.compile(r"(Layer|Block|Model|CausalLM|LMHead\w*|Encoder|Decoder|Generation)$")
_NOT_WHOLE = re.compile(r"(AttentionBlock|MoeBlock|RecurrentBlock|mLSTMBlock|FFNBlock|Moe?Layer)$")

FEED_FORWARD = {"mlp", "experts", "shared_experts", "router"}
#: What stands inside attention or a feed-forward block without being part of it.
ELSEWHERE = {"norm", "residual", "vision", "audio", "projector", "embedding"}


@lru_cache(maxsize=1)
def live_anatomy(specimen: zoo.Specimen) -> Anatomy:
    """All tests of one architecture ask for it."""
    return Anatomy.of_model(specimen.model)


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
    anatomy = live_anatomy(specimen)

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
    live = live_anatomy(specimen)

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


def test_the_page_says_the_same(specimen):
    row = make_architectures.row(specimen)
    if make_architectures.version() == transformers.__version__:
        assert row == make_architectures.rows()[specimen.model_type]


def test_every_architecture_attends_and_has_a_feed_forward_block_where_a_class_says_so(specimen):
    anatomy = live_anatomy(specimen)
    found = {label.component for label in anatomy.values()}
    assert "attention" in found
    if not found & FEED_FORWARD:  # each layer is one mixer, and nothing else
        says = {class_says(specimen.model, name) for name in specimen.runtime()}
        assert "feed-forward" not in says
        inside = {label.component for label in anatomy.values() if label.layer is not None}
        assert inside <= {"attention", "norm"}


def test_what_is_kept_the_other_way_round_is_what_the_modules_say(specimen):
    """The lists of fused.py, and the shapes that tell without them, against the module tree."""
    config = specimen.model.config.get_text_config()
    modules = list(specimen.model.modules())
    conv1d = any(isinstance(module, Conv1D) for module in modules)
    says = [module.is_transposed for module in modules if hasattr(module, "is_transposed")]
    anatomy = live_anatomy(specimen)
    stacked = _stacks(anatomy)
    assert (config.model_type in fused.CONV1D) == conv1d
    if says:
        assert (config.model_type in fused.INPUTS_FIRST_EXPERTS) == any(says)
    turned = {label.layout.axis for label in stacked if label.layout}
    if stacked:
        assert turned == {2 if config.model_type in fused.TRANSPOSED_EXPERTS else 1}
    nameless = config.to_dict() | {"model_type": "nothing known", "text_config": None}
    infos = [label.tensor for label in anatomy.values()]
    for label in _stacks(Anatomy.of_tensors(infos, nameless)):
        assert label.layout.axis in turned, "shapes alone tell"


def _stacks(anatomy):
    return [
        x
        for x in anatomy.values()
        if x.projection == "gate_up_proj"
        and x.layer is not None
        and x.component == "experts"
        and len(x.tensor.shape) == 3
    ]


def test_parameters_of_one_module_are_registered_in_the_order_that_is_known(specimen):
    for path, module in specimen.model.named_modules():
        names = [name for name, p in module.named_parameters(recurse=False) if p.dim() == 3]
        if len(names) > 1 and "experts" in path:
            order = [fused.REGISTERED.index(name) for name in names]
            assert order == sorted(order), path


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
