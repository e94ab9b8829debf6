"""Modes by a method, against the same method on files."""

import gc
import weakref

import pytest
import torch

import switchables
import tiny_adapters
import tiny_molora
from taia import SwitchableModel, compose
from taia.errors import AdapterError, MethodError, RunError, SelectionError
from taia.methods import Applied

IDS = switchables.IDS

ON_CHECKPOINTS = (
    "dare:keep=0.4,seed=3",
    "magnitude:keep=0.2",
    "revert-largest:revert=0.3",
    "lines:alpha=0.3",
    "wise-ft:alpha=0.25",
    "intruder:top_k=4",
    "dg-hard",
)
ON_ADAPTERS = tuple(text for text in ON_CHECKPOINTS if text != "dg-hard")


def refuses(base, text):
    """Whether a live model has the experts otherwise than files, and the method would tell."""
    scales = text.startswith(("lines", "wise-ft"))
    return not scales and "qwen3_moe" in (base / "config.json").read_text()


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


@pytest.fixture(scope="module", params=["llama", "tied-llama", "gpt2", "qwen3-moe"])
def checkpoints(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    tiny_adapters.model(request.param).save_pretrained(folder / "base")
    switchables.noisy(tiny_adapters.model(request.param), "").save_pretrained(folder / "tuned")
    return folder


@pytest.fixture(scope="module", params=["llama", "gpt2", "qwen3-moe", "embedding"])
def adapters(request, tmp_path_factory):
    family, options = request.param, {}
    if family == "embedding":
        family, options = "llama", {"target_modules": ["embed_tokens", "up_proj"]}
    return tiny_adapters.save_pair(tmp_path_factory.mktemp("pair"), family, **options)


@pytest.mark.parametrize("keep", ["all", "0.5*all", "mlp", "attention + 0.25*mlp[1:]"])
@pytest.mark.parametrize("text", ON_CHECKPOINTS)
def test_a_checkpoints_mode_is_what_compose_writes(checkpoints, tmp_path, text, keep):
    base, tuned = checkpoints / "base", checkpoints / "tuned"
    compose(base, tuned, tmp_path / "out", keep, method=text)
    written = dict(SwitchableModel.load(tmp_path / "out", None).model.named_parameters())
    model = SwitchableModel.load(base, tuned)
    if refuses(base, text):
        with pytest.raises(MethodError, match="one stack"):
            model.add_mode("made", keep, method=Applied.parse(text))
        return
    model.add_mode("made", keep, method=Applied.parse(text))
    before = {name: p.clone() for name, p in model.model.named_parameters()}
    with model.mode("made"):
        for name, parameter in model.model.named_parameters():
            assert torch.equal(parameter, written[name]), name
    for name, parameter in model.model.named_parameters():
        assert torch.equal(parameter, before[name]), name


@pytest.mark.parametrize("keep", ["all", "0.5*all"])
@pytest.mark.parametrize("text", ON_ADAPTERS)
def test_an_adapters_mode_is_what_compose_merges(adapters, tmp_path, text, keep):
    base, adapter = adapters
    compose(base, adapter, tmp_path / "out", keep, method=text, merge=True)
    expected = logits(SwitchableModel.load(tmp_path / "out", None))
    model = SwitchableModel.load(base, adapter)
    if refuses(base, text):
        with pytest.raises(MethodError, match="one stack"):
            model.add_mode("made", keep, method=Applied.parse(text))
        return
    base_logits, tuned_logits = (
        switchables.logits(model, modes=[m] * 2) for m in ("base", "tuned")
    )
    for start in ("tuned", "base", "0.5*all"):
        model.set_mode(start)
        before = logits(model)
        model.add_mode(start + "'", keep, method=Applied.parse(text))
        with model.mode(start + "'"):
            found = logits(model)
        assert torch.equal(logits(model), before)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    if text != "intruder:top_k=4":  # there may be no intruders
        assert not torch.allclose(found, tuned_logits, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(found, base_logits, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["lora llama", "checkpoint gpt2"])
def test_a_mode_named_inside_another_methods_mode_is_the_same(kind):
    made = {}
    for within in ("tuned", "first"):
        model = switchables.KINDS[kind][0]()
        model.add_mode("first", "all", method=Applied.parse("magnitude:keep=0.1"))
        with model.mode(within):
            model.add_mode("second", "all", method=Applied.parse("dare:keep=0.5"))
            found = logits(model)
        model.set_mode("first")
        assert within != "first" or torch.equal(found, logits(model))
        model.set_mode("second")
        made[within] = logits(model)
    assert torch.equal(made["tuned"], made["first"])


def tensors():
    """How many numbers all tensors hold."""
    gc.collect()
    return sum(one.numel() for one in gc.get_objects() if isinstance(one, torch.Tensor))


@pytest.mark.parametrize("kind", ["lora llama", "checkpoint llama"])
def test_forgetting_a_mode_frees_its_memory(kind):
    model = switchables.KINDS[kind][0]()
    before = tensors()
    model.add_mode("made", "all", method=Applied.parse("magnitude:keep=0.2"))
    assert tensors() > before + 3000
    with model.mode("made"):
        logits(model)
    model.forget_mode("made")
    assert tensors() == before
    assert "made" not in model.modes
    with pytest.raises(SelectionError), model.mode("made"):
        pass


def test_a_mode_that_the_model_is_in_or_goes_back_to_is_not_forgotten():
    model = switchables.pair("llama")
    model.add_mode("made", "all", method=Applied.parse("dare"))
    with model.mode("made"):
        with pytest.raises(RunError, match="while the model is in it"):
            model.forget_mode("made")
        with model.mode("base"), pytest.raises(RunError, match="while the model is in it"):
            model.forget_mode("made")
    model.forget_mode("made")


@pytest.mark.parametrize(
    ("name", "said"), [("base", "every model's"), ("tuned", "every model's"), ("none", "no mode")]
)
def test_what_cannot_be_forgotten(name, said):
    with pytest.raises(SelectionError, match=said):
        switchables.pair("llama").forget_mode(name)


def test_one_name_is_one_method():
    model = switchables.pair("llama")
    model.add_mode("made", "all", method=Applied.parse("magnitude:keep=0.2"))
    model.add_mode("made", "all", method=Applied.parse("magnitude:keep=0.2"))
    for method in (Applied.parse("magnitude:keep=0.3"), None):
        with pytest.raises(SelectionError, match="'made' is 'all' already"):
            model.add_mode("made", "all", method=method)


def test_rows_of_a_batch_are_not_in_such_a_mode_and_others():
    model = SwitchableModel.wrap(switchables.adapted("llama"))
    model.add_mode("made", "all", method=Applied.parse("magnitude:keep=0.2"))
    with pytest.raises(AdapterError, match=r"what magnitude:keep=0\.2 made"):
        model(input_ids=IDS, modes=["made", "tuned"])
    with model.mode("made"):
        expected = logits(model)
    assert torch.equal(switchables.logits(model, modes=["made", "made"]), expected)


def test_a_cache_of_such_a_mode_fits_no_other():
    model = SwitchableModel.wrap(switchables.adapted("llama"))
    model.add_mode("made", "all", method=Applied.parse("magnitude:keep=0.2"))
    with torch.no_grad():
        with model.mode("made"):
            out = model(input_ids=IDS, use_cache=True)
        cache = {switchables.CACHE: out[switchables.CACHE]}
        with model.mode("tuned"), pytest.raises(RunError, match="filled in another mode"):
            model(input_ids=IDS[:, :1], **cache)


@pytest.mark.parametrize("text", ["safe-delta", "spectral-surgery", "safe-lora"])
def test_a_method_that_needs_more_is_refused(text):
    with pytest.raises(MethodError, match="which a live model has not"):
        switchables.pair("llama").add_mode("made", "all", method=Applied.parse(text))


def test_dg_hard_is_for_full_fine_tuning():
    model = SwitchableModel.wrap(switchables.adapted("llama"))
    with pytest.raises(AdapterError, match="is for full fine-tuning"):
        model.add_mode("made", "all", method=Applied.parse("dg-hard"))
    assert "made" not in model.modes


@pytest.mark.parametrize("text", ["magnitude:keep=0.2", "intruder"])
@pytest.mark.parametrize(
    "made",
    [
        lambda: switchables.adapted("llama", use_dora=True),
        lambda: tiny_molora.molora(**tiny_molora.MEDCARE),
    ],
    ids=["dora", "molora"],
)
def test_what_is_no_plain_product_is_refused(made, text):
    model = SwitchableModel.wrap(made())
    before = logits(model)
    with pytest.raises(AdapterError, match=r"works on one product B·A"):
        model.add_mode("made", "all", method=Applied.parse(text))
    assert torch.equal(logits(model), before)


def test_a_forgotten_model_is_not_held_by_its_modes():
    model = switchables.pair("llama")
    model.add_mode("made", "all", method=Applied.parse("dare"))
    seen = weakref.ref(model)
    del model
    gc.collect()
    assert seen() is None
