"""Whose numbers an engine's are: found in any noise that the check lets pass."""

import pytest

pytest.importorskip("lm_eval", reason="needs taia[eval]")

import torch
from hypothesis import given
from hypothesis import strategies as st

import tiny_models
from taia.errors import RunError
from taia.evaluation.harness.encoder import Encoder
from taia.evaluation.vllm.check import ALLOWED, BLUR, check, references
from taia.evaluation.vllm.prompts import prompts
from taia.runtime.switchable import SwitchableModel

TOKENS = 160
MODES = ("base", "tuned", "taia", "taif")


def drawn(seed, size=1.0):
    return torch.randn(TOKENS, generator=torch.Generator().manual_seed(seed)) * size


def modes(effect, seed=0):
    """References of four modes, whose updates are so large in each token (root mean square)."""
    base = -3 + drawn(seed)
    return {m: base + drawn(seed + 1 + n, effect * (m != "base")) for n, m in enumerate(MODES)}


def rounded(numbers, noise, seed=99):
    """As another program computes them."""
    return {m: n + drawn(seed + i, noise) for i, (m, n) in enumerate(numbers.items())}


seeds = st.integers(0, 10_000)


@given(seeds, st.sampled_from([*ALLOWED]), st.floats(0, 0.8), st.floats(0.02, 3))
def test_what_is_right_passes_in_any_noise_that_is_rounding(seed, dtype, share, effect):
    """Where the noise is as large as what it would hide, it cannot be told, and is refused."""
    noise = share * ALLOWED[dtype]
    wanted = modes(effect, seed)
    served = rounded(wanted, noise, seed + 50)
    if noise > 0.8 * BLUR * effect * TOKENS**0.5:
        return
    check(served, wanted, dtype)


@given(
    seeds,
    st.sampled_from([*ALLOWED]),
    st.floats(0, 0.8),
    st.floats(0.001, 3),
    st.permutations(MODES),
)
def test_what_is_swapped_is_refused_whatever_the_noise(seed, dtype, share, effect, order):
    wanted = modes(effect, seed)
    served = rounded(wanted, share * ALLOWED[dtype], seed + 50)
    mixed = {mode: served[other] for mode, other in zip(MODES, order, strict=True)}
    if list(order) == list(MODES):
        return
    with pytest.raises(RunError) as told:
        check(mixed, wanted, dtype)
    moved = [mode for mode, other in zip(MODES, order, strict=True) if mode != other]
    assert any(mode in told.value.problem for mode in moved) or "alike" in told.value.problem


@given(seeds, st.sampled_from([*ALLOWED]), st.floats(-1, 0.9), st.floats(0.02, 3))
def test_a_part_of_a_mode_is_refused(seed, dtype, part, effect):
    """Without noise, as most of it is the same in every mode."""
    wanted = modes(effect, seed)
    served = dict(wanted)
    served["taia"] = wanted["base"] + part * (wanted["taia"] - wanted["base"])
    with pytest.raises(RunError, match="taia"):
        check(served, wanted, dtype)


def test_a_mild_mode_is_told_from_base_in_bfloat16():
    """Half as large as the noise, token by token; the tokens together tell."""
    wanted = modes(0.1)
    check(rounded(wanted, 0.05), wanted, "bfloat16")
    served = rounded(wanted, 0.05)
    served["tuned"] = rounded(wanted, 0.05, 7)["base"]
    with pytest.raises(RunError, match="Asked for mode tuned, vLLM answers as base"):
        check(served, wanted, "bfloat16")


def test_modes_too_much_alike_for_the_dtype_are_refused_as_such():
    wanted = modes(1.0)
    wanted["taif"] = wanted["taia"] + drawn(5, 0.001)
    with pytest.raises(RunError, match="Modes taia and taif are too much alike") as told:
        check(rounded(wanted, 0.05), wanted, "bfloat16")
    assert "--dtype float32" in told.value.mend
    check(rounded(wanted, 1e-5), wanted, "float32")


@pytest.mark.parametrize(
    ("dtype", "off"), [("float32", 0.02), ("float16", 0.05), ("bfloat16", 0.3)]
)
def test_numbers_that_are_off_more_than_a_dtype_rounds_are_refused(dtype, off):
    wanted = modes(3.0)
    served = dict(wanted)
    served["base"] = wanted["base"] + off
    with pytest.raises(RunError, match=f"In mode base .* is allowed in {dtype}"):
        check(served, wanted, dtype)


def test_modes_that_do_the_same_are_one():
    wanted = modes(1.0)
    wanted["again"] = wanted["taia"].clone()
    wanted["nothing"] = wanted["base"].clone()
    check(rounded(wanted, 1e-4), wanted, "float32", ["base", "nothing"])
    with pytest.raises(RunError, match="Mode nothing says what base says"):
        check(rounded(wanted, 1e-4), wanted, "float32")


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
@pytest.mark.parametrize("whose", ["the model", "vLLM"])
def test_what_is_no_number_is_told(whose, value):
    wanted = modes(1.0)
    served = rounded(wanted, 1e-4)
    {"the model": wanted, "vLLM": served}[whose]["taia"][7] = value
    with pytest.raises(RunError, match=f"In mode taia log-probabilities of {whose}"):
        check(served, wanted, "float32")


@pytest.mark.parametrize("chat", [True, False])
def test_prompts_are_two_and_fit(chat):
    tokenizer = tiny_models.tokenizer(chat)
    long, short = (
        Encoder(tiny_models.llama(**c).config, tokenizer)
        for c in ({}, {"max_position_embeddings": 128})
    )
    one, two = prompts(long)
    assert one != two
    assert (tiny_models.tokenizer().encode("<|im_start|>")[0] in two) == chat
    assert [len(ids) for ids in prompts(short)] == [127, 127]


def test_references_are_the_models_own():
    model = SwitchableModel.wrap(tiny_models.lora(tiny_models.llama()))
    asked = [(1, 2, 3, 4), (9, 8, 7)]
    found = references(model, ["base", "taia"], asked)
    for mode in ("base", "taia"):
        sums = []
        with model.mode(mode), torch.no_grad():
            for ids in asked:
                loss = model.model(torch.tensor([ids]), labels=torch.tensor([ids])).loss
                sums.append(-float(loss) * (len(ids) - 1))
        assert [len(numbers) for numbers in found[mode]] == [3, 2]
        assert [float(numbers.sum()) for numbers in found[mode]] == pytest.approx(sums, rel=1e-5)
    assert not torch.equal(found["base"][0], found["taia"][0])
