"""Whatever a tensor is called, it is labelled or refused, in time that grows with the names."""

import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from taia.anatomy import COMPONENTS, Anatomy, TensorInfo
from taia.errors import AnatomyError

WORDS = st.sampled_from(
    [
        *"model layers layer h mlp self_attn q_proj experts norm weight 0 7 01 ² ٣ -1".split(),
        *("9" * 5000, "", " ", "\n", "\ud800", "1\n"),
    ]
)


@given(st.lists(WORDS | st.text(max_size=4), min_size=1, max_size=8).map(".".join))
@example("8")
@example("8.9")
@example("layers.²")
@example("layers.²." + "mlp.up_proj.weight")
@example(f"model.layers.{'9' * 5000}.mlp.up_proj.weight")
@example("\ud800")
@example("")
def test_any_name_is_labelled_or_refused_in_two_printable_lines(name):
    try:
        label = Anatomy.of_tensors([TensorInfo(name, (4, 4))])[name]
    except AnatomyError as error:
        lines = str(error).split("\n")
        assert len(lines) == 2
        assert all(line.isprintable() and len(line) < 2000 for line in lines)
    else:
        assert label.component in COMPONENTS
        assert label.layer is None or f".{label.layer}." in f".{name}."


@pytest.mark.parametrize("number", ["²", "٣", "01", "-1", "1_0", "100000", "9" * 5000, "1\n"])
def test_what_only_looks_like_a_layers_number_is_refused(number):
    with pytest.raises(AnatomyError, match="no rule labels"):
        Anatomy.of_tensors([TensorInfo(f"model.layers.{number}.mlp.up_proj.weight")])


def test_numbers_of_layers_as_they_are():
    names = [f"model.layers.{number}.mlp.up_proj.weight" for number in (0, 9, 10, 99999)]
    assert [x.layer for x in Anatomy.of_tensors(map(TensorInfo, names)).values()] == [
        *(0, 9, 10, 99999)
    ]


def test_what_is_refused_can_be_declared():
    anatomy = Anatomy.of_tensors([TensorInfo("8")], declare={"8": "mlp"})
    assert anatomy["8"].component == "mlp"


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.norm_{}.weight",  # beside each other in one layer
        "model.layers.{}.input_layernorm.weight",
        "model.layers.0.mlp.experts.{}.up_proj.weight",
        "model.layers.0.self_attn.{}.q_proj.weight",
        "lm_head.{}.weight",
    ],
)
def test_labelling_takes_steps_in_proportion_to_the_tensors(name):
    few, many = (_steps([name.format(i) for i in range(n)]) for n in (100, 1600))
    assert many < 20 * few


def test_labelling_takes_steps_in_proportion_to_a_names_length():
    few, many = (_steps(["model." + "self." * n + "lm_head.weight"]) for n in (200, 3200))
    assert many < 20 * few


def _steps(names):
    """Lines of Python that labelling executes, and elements of sets that it goes through."""
    count = 0

    def trace(frame, event, arg):
        nonlocal count
        count += event == "line"
        return trace

    sys.settrace(trace)
    try:
        Anatomy.of_tensors(map(TensorInfo, names))
    finally:
        sys.settrace(None)
    return count


@pytest.mark.parametrize("heads", [10**6, 10**12, 10**300, True, "4", 4.0, -4, [4], None])
@pytest.mark.parametrize("key", ["num_attention_heads", "num_key_value_heads", "head_dim"])
def test_numbers_of_a_config_that_no_model_has_divide_nothing(key, heads):
    config = {"model_type": "llama", "num_attention_heads": 4, "num_key_value_heads": 2}
    config |= {"hidden_size": 32, "head_dim": 8}
    q = TensorInfo("model.layers.0.self_attn.q_proj.weight", (32, 32))
    k = TensorInfo("model.layers.0.self_attn.k_proj.weight", (16, 32))
    assert Anatomy.of_tensors([q, k], config)[q.name].layout is not None
    found = Anatomy.of_tensors([q, k], config | {key: heads})
    for label in found.values():
        assert label.layout is None or label.layout.segments[-1].stop == label.tensor.shape[0]
    if heads in (10**6, 10**12, 10**300):
        assert found[k.name].layout is None


@pytest.mark.parametrize(
    "parameter",
    [
        *("weight", "weight.absmax", "weight.quant_map", "weight.nested_absmax", "SCB"),
        *("weight.nested_quant_map", "weight.quant_state.bitsandbytes__nf4", "weight_format"),
        *("qweight", "qzeros", "scales", "g_idx", "weight_packed", "weight_g_idx"),
        *("weight_scale", "weight_scale_2", "weight_global_scale", "input_global_scale"),
    ],
)
def test_what_a_quantised_weight_consists_of_is_one_projection(parameter):
    paths = ["self_attn.k_proj", "mlp.down_proj", "mlp.experts.3.up_proj"]
    for path in paths:
        name = f"model.layers.1.{path}.{parameter}"
        label = Anatomy.of_tensors([TensorInfo(name)], None, None)[name]
        assert label.projection == path.rpartition(".")[2]
        assert label.layer == 1


@pytest.mark.parametrize("ending", ["blocks", "scales", "scale", "scale_inv"])
def test_what_a_stack_of_quantised_experts_consists_of_is_one_projection(ending):
    name = f"model.layers.0.mlp.experts.gate_up_proj_{ending}"
    label = Anatomy.of_tensors([TensorInfo(name)], None, None)[name]
    assert (label.component, label.projection) == ("experts", "gate_up_proj")
