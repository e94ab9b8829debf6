"""Models that read images: the text tower is labelled as a text model is, the rest for itself."""

import pytest
import transformers

import make_architectures
import zoo
from taia.anatomy import Anatomy
from taia.errors import SelectionError
from taia.selection import Selection

pytestmark = pytest.mark.versions

#: Components that a text model has not.
BESIDE = {"vision", "audio", "projector"}


@pytest.fixture(scope="module", params=zoo.VISION_LANGUAGE)
def specimen(request):
    return zoo.build_vision_language(request.param)


def _said(label):
    return (label.component, label.layer, label.projection, label.block, label.role, label.layout)


def _tower(anatomy):
    """What stands in layers of the text tower, by the rest of its name."""
    found = {}
    for name, label in anatomy.items():
        if label.component not in BESIDE and label.layer is not None:
            found[name.removeprefix(label.stack)] = _said(label)
    return found


def test_the_text_tower_is_labelled_as_the_same_tower_alone(specimen):
    seeing = Anatomy.of_model(specimen.model)
    alone = Anatomy.of_model(specimen.model.get_decoder())

    assert _tower(seeing) == _tower(alone)
    assert {"attention", "norm"} <= {component for component, *_ in _tower(alone).values()}


def test_what_sees_is_vision_and_what_leads_to_the_text_is_projector(specimen):
    anatomy = Anatomy.of_model(specimen.model)
    beside = {name for name, label in anatomy.items() if label.component in BESIDE}
    text = [*specimen.model.get_decoder().parameters()]
    text += specimen.model.get_output_embeddings().parameters()
    of_text = {id(parameter) for parameter in text}
    named = list(specimen.model.named_parameters(remove_duplicate=False))

    assert beside & {n for n, _ in named} == {n for n, p in named if id(p) not in of_text}
    assert any(anatomy[name].component == "vision" for name in beside)


def test_the_page_says_the_same(specimen):
    row = make_architectures.row(specimen)
    if make_architectures.version() == transformers.__version__:
        assert row == make_architectures.rows(seeing=True)[specimen.model_type]


@pytest.mark.parametrize("model_type", ["llava", "qwen2_5_vl", "idefics3", "internvl"])
def test_names_of_projections_are_the_text_towers(model_type):
    anatomy = Anatomy.of_model(zoo.build_vision_language(model_type).model)
    projections = {x.projection for x in anatomy.values() if x.component == "vision" and x.layer}
    shared = projections & {x.projection for x in anatomy.values() if x.role}
    name = min(shared & {"q_proj", "up_proj", "down_proj"}, default=None)
    assert name is not None, "the control: both have a projection of that name"

    kept = {n for n, alpha in Selection.parse(name).alphas(anatomy).items() if alpha}
    assert {anatomy[n].component for n in kept} <= {"attention", "mlp"}
    seen = {n for n, a in Selection.parse(f"vision.{name}").alphas(anatomy).items() if a}
    assert {anatomy[n].component for n in seen} == {"vision"}
    both = {n for n, a in Selection.parse(f"all - {name}").alphas(anatomy).items() if not a}
    assert both == kept


def test_taia_keeps_encoder_and_projector_and_drops_the_text_towers_feed_forward():
    anatomy = Anatomy.of_model(zoo.build_vision_language("llava").model)
    alphas = Selection.parse("taia").alphas(anatomy)
    dropped = {anatomy[name].component for name, alpha in alphas.items() if not alpha}
    kept = {anatomy[name].component for name, alpha in alphas.items() if alpha}
    assert dropped == {"mlp"}
    assert {"vision", "projector", "attention"} <= kept
    with pytest.raises(SelectionError):
        Selection.parse("vision.gate_proj").alphas(anatomy)
