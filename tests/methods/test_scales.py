"""Methods that are a number for each place: WiSE-FT and LiNeS."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from anatomies import llama
from methods_given import a_label, normal, of
from taia.anatomy.labels import depths
from taia.methods import Applied
from taia.selection import Selection


@pytest.mark.parametrize("alpha", [0, 0.25, 0.5, 1])
def test_wise_ft_weakens_all_alike(alpha: float) -> None:
    applied, update = Applied.of("wise-ft", alpha=alpha), normal(6, 8)
    labels = llama().values()
    assert {applied.scale(label, 4) for label in labels} == {alpha}
    assert np.array_equal(of(str(applied), update), update * np.float32(alpha))


@pytest.mark.parametrize("method", ["wise-ft:alpha=1", "lines:alpha=1"])
def test_at_one_the_update_is_itself(method: str) -> None:
    update = normal(6, 8)
    assert of(method, update) is update


@pytest.mark.parametrize("alpha", [0, 0.2, 0.75])
def test_lines_goes_from_alpha_to_one(alpha: float) -> None:
    anatomy = llama(4)
    applied = Applied.of("lines", alpha=alpha)
    wanted = [Fraction(alpha) + (1 - Fraction(alpha)) * Fraction(layer, 3) for layer in range(4)]
    for label in anatomy.values():
        scale = applied.scale(label, depths(anatomy.values()).get(label.stack, 0))
        exact = Fraction(alpha) if label.layer is None else wanted[label.layer]
        assert scale == pytest.approx(float(exact), abs=1e-15)


def test_lines_is_a_selection() -> None:
    anatomy = llama(3)
    text = "0.5*all + 0.75*attention[1] + 0.75*mlp[1] + 0.75*norm[1] + all[2]"
    wanted = Selection.parse(text).alphas(anatomy)
    applied = Applied.of("lines", alpha=0.5)
    assert {n: applied.scale(label, 3) for n, label in anatomy.items()} == wanted


def test_a_single_layer_is_the_first() -> None:
    assert Applied.of("lines", alpha=0.3).scale(a_label(layer=0), 1) == 0.3


def test_stacks_of_layers_have_depths_of_their_own() -> None:
    labels = [a_label(layer=3), a_label(layer=1, stack="vision.layers"), a_label(layer=None)]
    assert depths(labels) == {"model.layers": 4, "vision.layers": 2}
