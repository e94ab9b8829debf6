"""Loss and KL against transformers' plain forward, one row at a time, and torch's kl_div."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

import switchables
import tiny_adapters
import tiny_models
import tiny_molora
from taia import SwitchableModel
from taia.errors import InputError
from taia.mending.measures import Meter, Nats
from tiny_examples import KEEP, LEARN


class NoLogitsToKeep(LlamaForCausalLM):
    """A model of older times."""

    def forward(self, input_ids=None, attention_mask=None):
        return super().forward(input_ids=input_ids, attention_mask=attention_mask)


class NoHead(NoLogitsToKeep):
    """A model that does not say what its head is."""

    def get_output_embeddings(self):
        return None


def of_class(kind):
    def made():
        torch.manual_seed(7)
        return kind(LlamaConfig(**tiny_models.LLAMA)).eval()

    return SwitchableModel.wrap(made(), switchables.noisy(made(), ""))


def soft_capped():
    def made():
        sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
        return tiny_models.model(
            "gemma2", vocab_size=260, final_logit_softcapping=2.0, **sizes, **heads
        )

    return SwitchableModel.wrap(made(), switchables.noisy(made(), ""))


MODELS = {
    **{name: make for name, (make, _, _) in switchables.KINDS.items()},
    "an adapter of the head": lambda: SwitchableModel.wrap(
        switchables.adapted("llama", target_modules=["lm_head", "q_proj"])
    ),
    "a head saved whole": lambda: SwitchableModel.wrap(
        switchables.noisy(
            switchables.adapted("llama", target_modules=["q_proj"], modules_to_save=["lm_head"]),
            "modules_to_save",
        )
    ),
    "soft-capped": soft_capped,
    "no logits_to_keep": lambda: of_class(NoLogitsToKeep),
    "no head": lambda: of_class(NoHead),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    with tiny_adapters.quiet():
        return MODELS[request.param]()


def plain(model, mode, example, shift=1):
    """Log-probabilities before each token that counts, and those tokens, of one row alone."""
    with torch.no_grad(), model.mode(mode):
        logits = model.model(input_ids=torch.tensor([example.ids])).logits[0].double()
    places = torch.tensor(example.counted)
    return logits.log_softmax(-1)[places - shift], torch.tensor(example.ids)[places]


def expected_loss(model, mode, shift=1):
    found = []
    for example in LEARN:
        logs, tokens = plain(model, mode, example, shift)
        found.append(float(torch.nn.functional.nll_loss(logs, tokens, reduction="sum")))
    return found


def expected_divergence(model, mode, shift=1):
    found = []
    for example in KEEP:
        (base, _), (other, _) = (plain(model, name, example, shift) for name in ("base", mode))
        each = torch.nn.functional.kl_div(other, base, log_target=True, reduction="sum")
        found.append(float(each))
    return found


@pytest.mark.parametrize("mode", ["base", "tuned", "all - norm", "0.4*all"])
@pytest.mark.parametrize("batch_tokens", [1, 45, None])
def test_both_are_those_of_one_row_at_a_time(model, mode, batch_tokens):
    meter = Meter(model, LEARN, KEEP, batch_tokens=batch_tokens)
    if mode == "0.4*all" and not all(part.scales for part in model.changed):
        mode = "tuned"
    with model.mode(mode):
        loss, divergence = meter.loss(), meter.divergence()
    assert loss.nats == pytest.approx(expected_loss(model, mode), rel=2e-5, abs=2e-5)
    assert divergence.nats == pytest.approx(expected_divergence(model, mode), rel=1e-4, abs=2e-5)
    assert loss.tokens == tuple(len(example.counted) for example in LEARN)
    assert divergence.tokens == tuple(len(example.counted) for example in KEEP)
    if mode == "base":
        assert max(map(abs, divergence.nats)) < 1e-6
    else:
        assert min(divergence.nats) > 1e-4


def test_the_control_places_that_are_off_by_one_are_seen(model):
    meter = Meter(model, LEARN, KEEP)
    with model.mode("tuned"):
        loss, divergence = meter.loss(), meter.divergence()
    assert loss.nats != pytest.approx(expected_loss(model, "tuned", shift=0), rel=1e-2)
    assert divergence.nats != pytest.approx(expected_divergence(model, "tuned", shift=0), rel=1e-2)


def test_the_mode_is_left_as_it_was(model):
    meter = Meter(model, LEARN, KEEP)
    model.set_mode("tuned")
    meter.loss()
    meter.divergence()
    assert model.current == "tuned"
    assert all(parameter.grad is None for parameter in model.model.parameters())


def test_dropout_is_off_meanwhile_and_on_again():
    with tiny_adapters.quiet():
        model = SwitchableModel.wrap(switchables.adapted("llama", lora_dropout=0.5))
    meter = Meter(model, LEARN, KEEP)
    quiet = meter.loss(), meter.divergence()
    model.model.train()
    assert (meter.loss(), meter.divergence()) == quiet
    assert model.model.training


def test_the_divergence_of_base_is_zero_to_the_last_bit():
    model = SwitchableModel.wrap(switchables.adapted("llama"))
    with model.mode("base"):
        assert set(Meter(model, [], KEEP).divergence().nats) == {0.0}


def test_a_model_in_half_precision_is_measured_in_single():
    """At uniform logits the loss is log(vocabulary), which bfloat16 would round by a hundredth."""
    base = tiny_adapters.model("llama", torch.bfloat16)
    base.lm_head.weight.data.zero_()
    loss = Meter(SwitchableModel.wrap(base), LEARN, []).loss()
    assert loss.mean == pytest.approx(math.log(64), rel=1e-6)


def test_nothing_to_measure_on_is_refused():
    meter = Meter(SwitchableModel.wrap(tiny_adapters.model("llama")), [], [])
    with pytest.raises(InputError, match="no learnt rows"):
        meter.loss()
    with pytest.raises(InputError, match="no kept examples"):
        meter.divergence()


def test_molora_is_measured_with_all_its_parts():
    model = SwitchableModel.wrap(tiny_molora.molora(**tiny_molora.MEDCARE))
    meter = Meter(model, LEARN, KEEP)
    with model.mode("tuned"):
        assert meter.loss().nats == pytest.approx(expected_loss(model, "tuned"), rel=2e-5, abs=2e-5)


nats = st.lists(
    st.tuples(st.floats(0, 100), st.floats(0, 100), st.integers(1, 50)), min_size=2, max_size=30
)


@given(nats)
def test_a_difference_is_that_of_the_means(rows):
    one, two, tokens = zip(*rows, strict=True)
    first, second = Nats(one, tokens), Nats(two, tokens)
    found = first.minus(second)
    assert found.mean == pytest.approx(first.mean - second.mean, abs=1e-9)
    assert found.error == pytest.approx(second.minus(first).error)
    assert first.minus(first) == (0.0, 0.0)


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=30), st.integers(1, 40))
def test_with_equal_tokens_the_error_is_that_of_a_mean(values, tokens):
    found = Nats(tuple(values), (tokens,) * len(values)).error
    expected = np.std(values, ddof=1) / math.sqrt(len(values)) / tokens
    assert found == pytest.approx(expected, abs=1e-9)


def test_the_error_is_how_much_the_mean_varies():
    """Against drawing the examples again and again."""
    random = np.random.default_rng(3)
    tokens = random.integers(1, 40, 300)
    values = tokens * random.normal(2.0, 0.5, 300) + random.normal(0, 4, 300)
    error = Nats(tuple(values), tuple(int(t) for t in tokens)).error
    draws = random.integers(0, 300, (4000, 300))
    means = values[draws].sum(1) / tokens[draws].sum(1)
    assert error == pytest.approx(np.std(means), rel=0.08)


def test_one_example_tells_nothing_of_others():
    assert Nats((3.0,), (2,)).error == math.inf


def test_modes_measured_on_other_examples_are_not_compared():
    with pytest.raises(InputError, match="measured on the same"):
        Nats((1.0, 2.0), (3, 4)).minus(Nats((1.0, 2.0), (4, 3)))
