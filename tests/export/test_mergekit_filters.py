"""mergekit's filters: every tensor gets its value, by mergekit's rule and not by ours."""

from hypothesis import given
from hypothesis import strategies as st

from taia.export.to_mergekit import filters, value_of


def by_mergekit(name, among):
    """The loop of mergekit's evaluate_setting."""
    for part, value in among:
        if part is None or part == "*" or (name and part in name):
            return value
    return None


LAYERS = [
    f"model.layers.{layer}.{part}.weight"
    for layer in range(12)
    for part in ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "input_layernorm")
]


def test_a_component_is_one_filter():
    values = {name: float("self_attn" in name) for name in LAYERS}
    assert filters(values) == [(".self_attn.", 1.0), (None, 0.0)]


def test_layers_one_and_eleven_are_told_apart():
    values = {name: float(".1.mlp" in name) for name in LAYERS}
    found = filters(values)
    assert {name: by_mergekit(name, found) for name in values} == values
    assert len(found) == 2


names = st.lists(st.sampled_from(["a", "b", "ab", "1", "11"]), min_size=1, max_size=4).map(".".join)


@given(st.dictionaries(names, st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=12))
def test_every_tensor_gets_its_value(values):
    found = filters(values)
    assert {name: by_mergekit(name, found) for name in values} == values
    assert {name: value_of(name, found) for name in values} == values
