"""Learned α where it is known what should be kept."""

import numpy as np
import pytest
import torch

import switchables
import tiny_adapters
import tiny_models
from taia import SwitchableModel
from taia.errors import InputError
from taia.mending.examples import Example
from taia.mending.learned import Learned, Search, learn
from taia.mending.measures import Meter
from taia.mending.places import Place, Places
from taia.mending.simpler import simpler
from taia.mending.tuning import Tuning
from taia.selection import Selection
from tiny_examples import KEEP, LEARN


def spoken(model, mode, count, seed, length=24):
    """What a mode says by itself: rows that this mode has learnt, and no other so well."""
    torch.manual_seed(seed)
    made = []
    with model.mode(mode), torch.no_grad():
        for number in range(count):
            ids = torch.randint(3, 60, (1, 4))
            while ids.shape[1] < length:
                logits = model(input_ids=ids).logits[:, -1]
                ids = torch.cat([ids, logits.softmax(-1).multinomial(1)], dim=1)
            row = tuple(ids[0].tolist())
            made.append(Example(f"{seed}-{number}", row, tuple(range(4, length))))
    return made


@pytest.fixture(scope="module")
def attention_learnt():
    """Attention's update is what was learnt, and the feed-forward blocks' is noise."""
    with tiny_adapters.quiet():
        model = SwitchableModel.wrap(tiny_models.lora(tiny_models.llama(), lora_alpha=8))
    learnt = spoken(model, "attention", 24, 1)
    kept = spoken(model, "base", 16, 2)
    return model, learnt, kept


def measured(model, learnt, kept, mode):
    meter = Meter(model, learnt, kept)
    with model.mode(mode):
        return meter.loss(), meter.divergence()


@pytest.fixture(scope="module")
def found(attention_learnt):
    model, learnt, kept = attention_learnt
    loss, _ = measured(model, learnt, kept, "attention")
    return learn(model, learnt, kept, start=0.7, ceiling=loss.mean + 0.02, steps=60, seed=0)


def test_what_was_learnt_is_kept_and_noise_is_not(attention_learnt, found):
    model, learnt, kept = attention_learnt
    _, tuned = measured(model, learnt, kept, "tuned")
    _, attention = measured(model, learnt, kept, "attention")
    assert found.is_feasible
    assert found.divergence.mean < attention.mean < tuned.mean
    of_mlp = [alpha for place, alpha in found.alphas.items() if place.component == "mlp"]
    of_attention = [a for place, a in found.alphas.items() if place.component == "attention"]
    assert np.mean(of_mlp) < 0.5 * np.mean(of_attention)


def test_what_it_says_is_what_the_selection_gives(attention_learnt, found):
    model, learnt, kept = attention_learnt
    loss, divergence = measured(model, learnt, kept, str(found.selection))
    assert found.loss.nats == pytest.approx(loss.nats, rel=1e-4, abs=1e-4)
    assert found.divergence.nats == pytest.approx(divergence.nats, rel=1e-3, abs=1e-4)
    given = Selection.parse(str(found.selection)).alphas(model.labels)
    for part in model.changed:
        assert given[part.name] == found.alphas[Place.of(part.label)]
    assert all(0 <= alpha <= 1 for alpha in found.alphas.values())


def test_it_is_better_than_any_one_number_for_all(attention_learnt, found):
    model, learnt, kept = attention_learnt
    for tenth in range(1, 11):
        loss, divergence = measured(model, learnt, kept, f"{tenth / 10}*all")
        assert loss.mean > found.ceiling or divergence.mean > found.divergence.mean


def test_the_same_seed_finds_the_same(attention_learnt):
    model, learnt, kept = attention_learnt
    runs = [
        learn(model, learnt, kept, start=0.5, ceiling=9.0, steps=3, seed=seed) for seed in (4, 4, 5)
    ]
    assert runs[0].alphas == runs[1].alphas != runs[2].alphas


@pytest.mark.parametrize("mode", ["base", "tuned", "0.3*mlp"])
def test_the_model_is_left_as_it_was(attention_learnt, mode):
    model, learnt, kept = attention_learnt
    model.set_mode(mode)
    before = switchables.logits(model)
    learn(model, learnt, kept, start=0.5, ceiling=9.0, steps=2)
    assert model.current == mode
    assert torch.equal(switchables.logits(model), before)
    model.set_mode("tuned")


def test_with_no_time_at_all_it_settles_from_where_it_starts(attention_learnt):
    model, learnt, kept = attention_learnt
    loss, _ = measured(model, learnt, kept, "0.6*all")
    found = learn(model, learnt, kept, start=0.6, ceiling=loss.mean + 1e-3, seconds=-1.0)
    assert found.path == ()
    assert found.is_feasible
    assert len(set(found.alphas.values())) == 1


def test_a_ceiling_that_nothing_is_under_is_told(attention_learnt):
    model, learnt, kept = attention_learnt
    found = learn(model, learnt, kept, start=0.5, ceiling=0.0, steps=3)
    assert not found.is_feasible
    tuned, _ = measured(model, learnt, kept, "tuned")
    assert found.loss.mean <= tuned.mean + 1e-6


def test_a_ceiling_that_base_is_under_leads_to_base(attention_learnt):
    model, learnt, kept = attention_learnt
    found = learn(model, learnt, kept, start=0.5, ceiling=100.0, steps=40)
    assert found.is_feasible
    assert found.divergence.mean < 0.01


def test_it_may_start_from_one_number_for_each_place(attention_learnt):
    model, learnt, kept = attention_learnt
    tuning = Tuning(Meter(model, learnt, kept))
    start = {place: float(place.component == "attention") for place in tuning.places.free}
    search = Search(tuning, start, seed=0)
    assert tuning.alphas(search.values) == start


@pytest.mark.parametrize("start", [-0.1, 1.01, float("nan")])
def test_it_starts_between_base_and_tuned(attention_learnt, start):
    model, learnt, kept = attention_learnt
    with pytest.raises(InputError, match=r"was to start at"):
        learn(model, learnt, kept, start=start, ceiling=1.0)


@pytest.mark.parametrize(("learnt", "kept"), [([], KEEP), (LEARN, [])])
def test_nothing_is_learned_without_examples(attention_learnt, learnt, kept):
    with pytest.raises(InputError, match=r"no learnt rows|without kept examples"):
        learn(attention_learnt[0], learnt, kept, start=0.5, ceiling=1.0)


def test_an_update_of_which_nothing_can_be_scaled_is_refused():
    with tiny_adapters.quiet():
        model = SwitchableModel.wrap(switchables.adapted("llama", use_dora=True))
    with pytest.raises(InputError, match="No part of the update can be scaled"):
        learn(model, LEARN, KEEP, start=0.5, ceiling=1.0)


def test_what_cannot_be_scaled_stays_tuned():
    with tiny_adapters.quiet():
        model = SwitchableModel.wrap(
            switchables.adapted("llama", target_modules=["q_proj"], modules_to_save=["lm_head"])
        )
    found = learn(model, LEARN, KEEP, start=0.2, ceiling=100.0, steps=2)
    assert found.alphas[Place(None, "head", "lm_head")] == 1.0
    with model.mode(str(found.selection)):
        assert Meter(model, LEARN, KEEP).loss().nats == pytest.approx(found.loss.nats, rel=1e-5)


def test_a_whole_checkpoint_is_searched_likewise():
    model = switchables.pair("tied-llama")
    learnt, kept = spoken(model, "tuned", 8, 1), spoken(model, "base", 8, 2)
    half, far = measured(model, learnt, kept, "0.5*all")
    found = learn(model, learnt, kept, start=0.5, ceiling=half.mean + 1e-3, steps=25)
    assert found.is_feasible
    assert found.divergence.mean < far.mean
    loss, divergence = measured(model, learnt, kept, str(found.selection))
    assert found.loss.mean == pytest.approx(loss.mean, abs=1e-4)
    assert found.divergence.mean == pytest.approx(divergence.mean, abs=1e-4)


def test_a_search_goes_on_under_another_ceiling(attention_learnt):
    model, learnt, kept = attention_learnt
    search = Search(Tuning(Meter(model, learnt, kept)), 0.8, seed=0)
    loss, _ = measured(model, learnt, kept, "attention")
    near, far = (search.run(loss.mean + slack, 15) for slack in (0.05, 0.6))
    assert near.is_feasible
    assert far.is_feasible
    assert far.divergence.mean < near.divergence.mean


# --- simpler forms -------------------------------------------------------------------------------


def by_component(attention_learnt, of_attention, of_mlp, noise):
    """What a search would have found: two numbers and some noise."""
    model, learnt, kept = attention_learnt
    places = Places(model.changed)
    random = np.random.default_rng(0)
    alphas = {
        place: float(
            np.clip(
                (of_attention if place.component == "attention" else of_mlp)
                + random.uniform(-noise, noise),
                0,
                1,
            )
        )
        for place in places.free
    }
    selection = places.selection(alphas)
    loss, divergence = measured(model, learnt, kept, str(selection))
    weights = dict.fromkeys(alphas, 1.0)
    return Learned(alphas, selection, loss, divergence, loss.mean + 0.02, weights, ())


@pytest.mark.parametrize(("of_attention", "of_mlp"), [(0.9, 0.3), (0.4, 0.8), (1.0, 0.0)])
def test_two_numbers_are_found_under_noise(attention_learnt, of_attention, of_mlp):
    noisy = by_component(attention_learnt, of_attention, of_mlp, 0.02)
    forms = simpler(Meter(*attention_learnt), noisy)
    assert [form.numbers for form in forms] == [1, 2]
    assert not forms[0].is_as_good, "the control: one number is not"
    assert forms[1].is_as_good
    assert forms[1].grouping == "components"
    for place, alpha in forms[1].alphas.items():
        assert alpha == (of_attention if place.component == "attention" else of_mlp)
    assert len(str(forms[1].selection)) < 30


def test_forms_are_what_they_say(attention_learnt, found):
    model, learnt, kept = attention_learnt
    forms = simpler(Meter(model, learnt, kept), found)
    assert not any(form.is_as_good for form in forms[:-1])
    assert forms[0].numbers == 1
    for form in forms:
        assert form.numbers == len(set(form.alphas.values()))
        for alpha in form.alphas.values():
            assert alpha * 20 == pytest.approx(round(alpha * 20))
        loss, divergence = measured(model, learnt, kept, str(form.selection))
        assert form.loss.mean == pytest.approx(loss.mean, abs=1e-4)
        assert form.divergence.mean == pytest.approx(divergence.mean, abs=1e-4)
        more = divergence.minus(found.divergence)
        over = loss.mean - found.ceiling - loss.minus(found.loss).error
        limit = max(more.error, 0.02 * found.divergence.mean)
        if min(abs(more.mean - limit), abs(over)) > 1e-3:
            assert form.is_as_good == (more.mean <= limit and over <= 0)
