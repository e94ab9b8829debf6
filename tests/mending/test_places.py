"""α by place as a selection: exact on every tensor of the update, and short."""

from functools import cache
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import anatomies
import switchables
import tiny_adapters
import tiny_molora
import zoo
from taia import SwitchableModel, compose
from taia.anatomy import Anatomy, Label, TensorInfo
from taia.errors import InputError
from taia.mending.places import Place, Places, selection_of
from taia.selection import Selection


def hostile():
    """Names that mean several things: a norm called norm in layers and outside, twins, a group."""
    shapes = {"model.embed_tokens.weight": (16, 8)}
    for i in range(3):
        layer = f"model.layers.{i}."
        shapes |= {
            layer + "norm.weight": (8,),
            layer + "self_attn.c_proj.weight": (8, 8),
            layer + "mlp.c_proj.weight": (8, 8),
            layer + "mlp.experts.0.w1.weight": (8, 8),
            layer + "mlp.experts.1.w1.weight": (8, 8),
            layer + "mlp.experts.1.w2.weight": (8, 8),
        }
    return anatomies.made(shapes | {"model.norm.weight": (8,), "lm_head.weight": (16, 8)}, None)


def unspeakable():
    """Projections whose names no selection can hold."""
    labels = [
        Label(TensorInfo(f"h.{i}.{name}.weight", (4, 4)), component, i, name, stack="h")
        for i in range(3)
        for name, component in (("q-proj", "attention"), ("mlp", "attention"), ("taia", "mlp"))
    ]
    return {label.tensor.name: label for label in labels}


#: An image encoder, an encoder beside a decoder, linear attention in some layers, latent attention,
#: fused experts both ways round, shared experts, norms of queries and keys, parallel blocks, Mamba.
TYPES = (
    *("llama", "gpt2", "gemma3", "qwen3_next", "deepseek_v3", "gpt_oss", "mixtral", "qwen3_moe"),
    *("gpt_neox", "falcon", "bloom", "phi3", "jamba", "mamba2", "olmo2", "dbrx", "granitemoe"),
)


def first_layers(kind, count=4):
    """What lies outside of a real model's layers, and the first of those: of each kind one."""
    anatomy = Anatomy.of_model(zoo.build(kind).model)
    return {n: label for n, label in anatomy.items() if (label.layer or 0) < count}


ANATOMIES = {
    "llama": anatomies.llama,
    "gpt2": anatomies.gpt2,
    "gpt2 without a config": lambda: anatomies.gpt2(None),
    "phi3": anatomies.phi3,
    "moe": anatomies.moe,
    "gpt_oss": anatomies.gpt_oss,
    "hostile": hostile,
    "unspeakable": unspeakable,
    **{f"real {kind}": lambda kind=kind: first_layers(kind) for kind in TYPES},
}


@cache
def anatomy_of(name):
    return dict(ANATOMIES[name]())


@pytest.mark.parametrize("name", ANATOMIES)
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), part=st.sampled_from([1.0, 1.0, 0.5, 0.1]), most=st.floats(0, 1))
def test_every_tensor_of_the_update_has_exactly_the_alpha_of_its_place(name, seed, part, most):
    """Few different α, as after rounding, and any; of all tensors or of some."""
    anatomy, random = anatomy_of(name), Random(seed)
    changed = [tensor for tensor in anatomy if random.random() < part] or [next(iter(anatomy))]
    labels = {tensor: anatomy[tensor] for tensor in changed}
    few = [0.0, 0.35, 0.5, 1.0, random.choice([1.0, 1.5])]
    by_place = {
        place: random.choice(few) if random.random() <= most else random.random()
        for place in sorted({*map(Place.of, labels.values())})
    }

    selection = selection_of(by_place, labels)

    expected = {tensor: by_place[Place.of(label)] for tensor, label in labels.items()}
    found = Selection.parse(str(selection)).alphas(anatomy)
    assert {tensor: found[tensor] for tensor in changed} == expected
    assert selection.alphas(labels) == expected, "an adapter's file has no more than these"


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mixtral"])
def test_files_that_have_experts_one_by_one_read_the_same_selection(kind):
    specimen = zoo.build(kind)
    live = Anatomy.of_model(specimen.model)
    on_disk = Anatomy.of_tensors(
        [TensorInfo(name, tuple(tensor.shape)) for name, tensor in specimen.on_disk().items()],
        specimen.model.config.to_dict(),
    )
    values = iter(range(1, 1000))
    by_place = {place: next(values) / 1000 for place in sorted({*map(Place.of, live.values())})}
    selection = selection_of(by_place, live)
    by_component = {}
    for labels in (live, on_disk):
        found = selection.alphas(labels)
        kept = {}
        for name, label in labels.items():
            kept.setdefault((label.layer, label.component), set()).add(found[name])
        by_component[id(labels)] = kept
    assert by_component[id(live)] == by_component[id(on_disk)]


def llama_places(layers=4):
    anatomy = anatomies.llama(layers)
    layered = {n: label for n, label in anatomy.items() if label.component in ("attention", "mlp")}
    return layered, {Place.of(label): 1.0 for label in layered.values()}


def changed_where(places, alpha, *, component=None, projection=None, layers=None):
    return {
        place: alpha
        if component in (None, place.component)
        and projection in (None, place.projection)
        and (layers is None or place.layer in layers)
        else before
        for place, before in places.items()
    }


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ([], "all"),
        ([(0.0, {})], "none"),
        ([(0.35, {})], "0.35*all"),
        ([(0.0, {"component": "mlp"})], "attention"),
        ([(0.35, {"component": "mlp"})], "0.35*all + attention"),
        ([(0.0, {"projection": "down_proj"})], "all - down_proj"),
        ([(0.0, {"layers": [3]})], "all[:3]"),
        ([(0.0, {}), (0.35, {"component": "mlp", "layers": [1, 2]})], "0.35*mlp[1:3]"),
        ([(0.0, {}), (0.5, {"projection": "q_proj", "layers": [2]})], "0.5*q_proj[2]"),
        ([(0.5, {"projection": "q_proj"}), (0.25, {"layers": [0]})], None),
    ],
)
def test_the_text_is_short(changes, text):
    labels, places = llama_places()
    for alpha, where in changes:
        places = changed_where(places, alpha, **where)
    found = selection_of(places, labels).text
    if text is None:
        assert len(found) <= len(
            "0.25*all[0] + 0.5*q_proj[1:] + (k_proj + v_proj + o_proj + mlp)[1:]"
        )
    else:
        assert len(found) <= len(text), found


def test_a_hundred_different_alphas_are_a_term_each():
    labels, places = llama_places(15)
    places = {place: round(0.001 * (7 + 9 * n), 3) for n, place in enumerate(places)}
    found = selection_of(places, labels)
    assert found.text.count("+") == len(places) - 1
    assert len(found.text) < 25 * len(places)


@pytest.mark.parametrize("alpha", [-0.1, float("nan"), float("inf"), None])
def test_what_no_selection_can_say_is_refused(alpha):
    labels, places = llama_places()
    first = next(iter(places))
    with pytest.raises(InputError, match=r"α of .*\[0\] was to be"):
        selection_of(places | {first: alpha}, labels)


def test_a_place_without_an_alpha_is_refused():
    labels, places = llama_places()
    places.pop(Place(2, "mlp", "up_proj"))
    with pytest.raises(InputError, match=r"mlp\.up_proj\[2\] was to be None"):
        selection_of(places, labels)


def test_places_are_in_the_order_of_layers():
    places = [Place(None, "head", "lm_head"), Place(2, "mlp", "a"), Place(0, "mlp", "b")]
    assert [place.layer for place in sorted([*places, Place(10, "mlp", "a")])] == [0, 2, 10, None]


# --- the places of a live model's update ---------------------------------------------------------


def test_what_cannot_be_scaled_stays_tuned():
    with tiny_adapters.quiet():
        model = SwitchableModel.wrap(
            switchables.adapted("llama", target_modules=["q_proj"], modules_to_save=["lm_head"])
        )
    places = Places(model.changed)
    assert places.fixed == (Place(None, "head", "lm_head"),)
    assert places.free == tuple(Place(layer, "attention", "q_proj") for layer in range(3))
    selection = places.selection(dict.fromkeys(places.free, 0.4))
    found = selection.alphas(model.labels)
    assert found["lm_head.weight"] == 1.0
    assert found["model.layers.1.self_attn.q_proj.weight"] == 0.4
    with model.mode(str(selection)):
        pass


def test_a_router_has_the_alpha_of_its_experts():
    model = SwitchableModel.wrap(tiny_molora.molora(**tiny_molora.MEDCARE))
    places = Places(model.changed)
    assert not any(place.component == "router" for place in places.free)
    values = {place: (7 + n % 5) / 20 for n, place in enumerate(places.free)}
    selection = places.selection(values)
    found = selection.alphas(model.labels)
    for part in model.changed:
        lead = part.follows or part.name
        assert found[part.name] == values[Place.of(model.labels[lead])], part.name
    with model.mode(str(selection)):  # refuses routers that are parted from their experts
        pass


def test_a_place_of_another_model_is_refused():
    model = switchables.pair("llama")
    with pytest.raises(InputError, match=r"attention\.c_attn is no place of the update"):
        Places(model.changed).selection({Place(None, "attention", "c_attn"): 0.5})


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3-moe", "mixtral"])
def test_compose_takes_it_and_gives_every_place_its_alpha(tmp_path, family):
    """In the files, too, where experts may have other names than in memory."""
    tiny_adapters.model(family).save_pretrained(tmp_path / "base")
    switchables.noisy(tiny_adapters.model(family), "").save_pretrained(tmp_path / "tuned")
    model = SwitchableModel.load(tmp_path / "base", tmp_path / "tuned")
    places = Places(model.changed)
    values = {
        place: round(0.02 + 0.9 * n / len(places.free), 3) for n, place in enumerate(places.free)
    }
    selection = places.selection(values)
    compose(tmp_path / "base", tmp_path / "tuned", tmp_path / "out", selection)
    written = SwitchableModel.load(tmp_path / "out", None, check_pair=False)
    composed = dict(written.model.named_parameters())
    with model.mode(str(selection)):
        for name, parameter in model.model.named_parameters():
            assert composed[name].equal(parameter), name
