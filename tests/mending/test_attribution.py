import numpy as np
import pytest

import switchables
import tiny_adapters
from taia import SwitchableModel
from taia.errors import InputError
from taia.mending.attribution import attribute
from taia.mending.measures import Meter
from taia.mending.places import Place
from tiny_examples import KEEP, LEARN

MODELS = ("lora llama", "molora", "checkpoint gpt2", "checkpoint tied-llama")


@pytest.fixture(scope="module", params=MODELS)
def meter(request):
    with tiny_adapters.quiet():
        return Meter(switchables.KINDS[request.param][0](), LEARN, KEEP)


def test_the_shares_are_the_whole_but_for_the_error_stated(meter):
    found = attribute(meter, points=21)
    with meter.model.mode("base"):
        base = meter.loss().mean
    with meter.model.mode("tuned"):
        tuned, far = meter.loss().mean, meter.divergence().mean
    assert found.loss.whole == pytest.approx(tuned - base, abs=1e-5)
    assert found.divergence.whole == pytest.approx(far, abs=1e-5)
    for shares in (found.loss, found.divergence):
        assert sum(shares.by_place.values()) + shares.error == pytest.approx(shares.whole)
        if any(place.component == "experts" for place in shares.by_place):
            continue  # where a token goes to other experts the measure jumps, which no slope tells
        assert abs(shares.error) < 0.02 * max(map(abs, shares.by_place.values()))


def test_the_line_is_that_of_the_modes(meter):
    found = attribute(meter, points=5)
    assert [point.alpha for point in found.line] == [0, 0.25, 0.5, 0.75, 1]
    for point in found.line:
        with meter.model.mode(f"{point.alpha}*all"):
            assert point.loss == pytest.approx(meter.loss().mean, abs=1e-5)
            assert point.divergence == pytest.approx(meter.divergence().mean, abs=1e-5)


def test_a_place_whose_update_is_zero_makes_nothing():
    model = switchables.adapted("llama")
    for name, parameter in model.named_parameters():
        if "layers.1.mlp.up_proj.lora_B" in name:
            parameter.data.zero_()
    found = attribute(Meter(SwitchableModel.wrap(model), LEARN, KEEP), points=3)
    place = Place(1, "mlp", "up_proj")
    assert found.loss.by_place[place] == found.divergence.by_place[place] == 0.0
    others = [value for other, value in found.loss.by_place.items() if other != place]
    assert min(map(abs, others)) > 0


def test_a_single_place_makes_all_of_it():
    model = SwitchableModel.wrap(
        switchables.adapted("llama", target_modules=["q_proj"], layers_to_transform=[1])
    )
    found = attribute(Meter(model, LEARN, KEEP), points=31)
    assert list(found.loss.by_place) == [Place(1, "attention", "q_proj")]
    assert found.loss.by_place[Place(1, "attention", "q_proj")] == pytest.approx(
        found.loss.whole, abs=1e-5
    )


def test_more_points_err_less():
    errors = [
        abs(attribute(Meter(switchables.pair("llama"), LEARN, KEEP), points=n).divergence.error)
        for n in (3, 17)
    ]
    assert errors[1] < errors[0] / 4


@pytest.mark.parametrize("points", [0, 1, 2, 4, 10])
def test_simpson_needs_an_odd_number(points):
    with pytest.raises(InputError, match=f"over {points} points"):
        attribute(Meter(switchables.pair("llama"), LEARN, KEEP), points=points)


def test_the_gradients_are_integrated_not_taken_at_an_end():
    """The control: at one end alone the shares are far from the whole."""
    meter = Meter(switchables.pair("llama"), LEARN, KEEP)
    found = attribute(meter, points=21)
    from taia.mending.tuning import Tuning

    tuning = Tuning(meter)
    at_the_end = tuning.divergence(np.ones(tuning.size)).gradient.sum()
    assert abs(at_the_end - found.divergence.whole) > 10 * abs(found.divergence.error)
