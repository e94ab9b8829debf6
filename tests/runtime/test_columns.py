"""A cache's layer against one that copies everything each time."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from taia.runtime.columns import RoomyLayer

HEADS, KEYS, VALUES = 2, 3, 5

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["append", "append", "widen", "trim", "keep", "join"]),
        st.integers(1, 90),
    ),
    max_size=14,
)


def states(rows, columns, seed):
    made = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(rows, HEADS, columns, width, generator=made) for width in (KEYS, VALUES)
    )


def layer_of(both):
    layer = RoomyLayer()
    layer.update(*both)
    return layer


@settings(deadline=None)
@given(rows=st.integers(1, 4), steps=STEPS)
def test_any_changes_in_any_order(rows, steps):
    expected = states(rows, 3, 0)
    layer = layer_of(expected)
    for seed, (step, size) in enumerate(steps, start=1):
        rows, columns = expected[0].shape[0], expected[0].shape[2]
        if step == "append":
            new = states(rows, 1 + size // 30, seed)
            given_back = layer.update(*new)
            expected = tuple(torch.cat(pair, 2) for pair in zip(expected, new, strict=True))
            assert all(map(torch.equal, given_back, expected))
        elif step == "widen":
            layer.widen(size)
            # What the padding is does not matter, but it has to be finite.
            assert all(bool(x[:, :, :size].isfinite().all()) for x in (layer.keys, layer.values))
            expected = tuple(
                torch.cat([found[:, :, :size], old], 2)
                for found, old in zip((layer.keys, layer.values), expected, strict=True)
            )
            expected = tuple(x.clone() for x in expected)
        elif step == "trim" and columns > 1:
            away = size % columns
            layer.widen(-away)
            expected = tuple(x[:, :, away:] for x in expected)
        elif step == "keep" and rows > 1:
            # Without the first row; the last takes its place.
            layer.keep(rows - 1, [rows - 1], [0])
            order = [rows - 1, *range(1, rows - 1)]
            expected = tuple(x[order] for x in expected)
        elif step == "join":
            other = states(1 + size % 3, columns, seed)
            layer.join(layer_of(other))
            expected = tuple(torch.cat(pair) for pair in zip(expected, other, strict=True))
        assert torch.equal(layer.keys, expected[0])
        assert torch.equal(layer.values, expected[1])
        assert layer.get_seq_length() == expected[0].shape[2]


def test_a_token_more_copies_nothing_that_is_there():
    layer = layer_of(states(2, 10, 0))
    layer.update(*states(2, 1, 1))
    place = layer.keys.data_ptr()
    for seed in range(2, 40):
        layer.update(*states(2, 1, seed))
        assert layer.keys.data_ptr() == place


def test_a_row_that_goes_copies_no_other():
    layer = layer_of(states(4, 10, 0))
    place, before = layer.keys.data_ptr(), layer.keys.clone()
    layer.keep(3, [3], [1])
    assert layer.keys.data_ptr() == place
    assert torch.equal(layer.keys, before[[0, 3, 2]])
