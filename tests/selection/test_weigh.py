"""Which α every tensor gets. Expected values are written out from what the architectures are."""

from __future__ import annotations

import re

import pytest

from anatomies import alphas, gpt2, gpt_oss, kept, llama, made, moe, phi3
from taia.anatomy import Anatomy, TensorInfo
from taia.errors import SelectionError
from taia.selection import MODES, Alpha, Pieces

LLAMA, GPT2, PHI3, MOE, GPT_OSS = llama(), gpt2(), phi3(), moe(), gpt_oss()

OUTSIDE = ["model.embed_tokens", "model.norm", "lm_head"]
ATTENTION = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"]
MLP = ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
NORMS = ["input_layernorm", "post_attention_layernorm"]


def weights(modules: list[str], layers: range, outside: list[str] | None = None) -> set[str]:
    """The Llama's tensors of some modules in some layers, and some outside of them."""
    inside = {f"model.layers.{i}.{module}.weight" for i in layers for module in modules}
    return inside | {f"{module}.weight" for module in outside or []}


ALL_LAYERS = range(4)


# --- components, projections and layers of a Llama ------------------------------------------------


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("base", set()),
        ("none", set()),
        ("tuned", weights(ATTENTION + MLP + NORMS, ALL_LAYERS, OUTSIDE)),
        ("all", weights(ATTENTION + MLP + NORMS, ALL_LAYERS, OUTSIDE)),
        ("taia", weights(ATTENTION + NORMS, ALL_LAYERS, OUTSIDE)),
        ("taif", weights(MLP, ALL_LAYERS)),
        ("taia-strict", weights(ATTENTION, ALL_LAYERS)),
        ("taia-qkvo", weights(ATTENTION, ALL_LAYERS)),
        ("attention", weights(ATTENTION, ALL_LAYERS)),
        ("self_attention", weights(ATTENTION, ALL_LAYERS)),
        ("mlp", weights(MLP, ALL_LAYERS)),
        ("norm", weights(NORMS, ALL_LAYERS, ["model.norm"])),
        ("attention_norm", weights(["input_layernorm"], ALL_LAYERS)),
        ("mlp_norm", weights(["post_attention_layernorm"], ALL_LAYERS)),
        ("final_norm", {"model.norm.weight"}),
        ("embedding", {"model.embed_tokens.weight"}),
        ("head", {"lm_head.weight"}),
        ("q_proj", weights(["self_attn.q_proj"], ALL_LAYERS)),
        ("up_proj + down_proj", weights(["mlp.up_proj", "mlp.down_proj"], ALL_LAYERS)),
        ("attention.v_proj", weights(["self_attn.v_proj"], ALL_LAYERS)),
        ("post_attention_layernorm", weights(["post_attention_layernorm"], ALL_LAYERS)),
        ("mlp[0]", weights(MLP, range(1))),
        ("mlp[-1]", weights(MLP, range(3, 4))),
        ("mlp[1:3]", weights(MLP, range(1, 3))),
        ("mlp[::2]", weights(MLP, range(0, 4, 2))),
        ("attention[1:][:2]", weights(ATTENTION, range(1, 2))),
        ("all[2:]", weights(ATTENTION + MLP + NORMS, range(2, 4))),
        ("all - mlp[2:]", weights(ATTENTION + NORMS, ALL_LAYERS, OUTSIDE) | weights(MLP, range(2))),
        ("(q_proj + k_proj)[2:]", weights(ATTENTION[:2], range(2, 4))),
        ("taia[0]", weights(ATTENTION + NORMS, range(1))),
        ("re:down_proj", weights(["mlp.down_proj"], ALL_LAYERS)),
        ('re:"^lm_head"', {"lm_head.weight"}),
        (r're:"layers\.[13]\.mlp\.up"', weights(["mlp.up_proj"], range(1, 4, 2))),
        ("re:_proj - mlp", weights(ATTENTION, ALL_LAYERS)),
        ("re:'k_proj'[3]", weights(["self_attn.k_proj"], range(3, 4))),
    ],
)
def test_keeps_exactly(selection: str, expected: set[str]) -> None:
    found = alphas(selection, LLAMA)
    assert list(found) == list(LLAMA)
    assert found == {name: float(name in expected) for name in LLAMA}


@pytest.mark.parametrize(
    ("selection", "attention", "mlp", "norm"),
    [
        ("attention + 0.5*mlp", 1.0, 0.5, 0.0),
        ("0.25*all + 0.5*mlp", 0.25, 0.5, 0.25),
        ("0.5*mlp + 0.25*all", 0.25, 0.5, 0.25),
        ("all - 0.75*mlp", 1.0, 0.25, 1.0),
        ("0.5*all - mlp", 0.5, 0.0, 0.5),
        ("1.5*attention", 1.5, 0.0, 0.0),
        ("1.5*all - mlp", 1.5, 0.5, 1.5),
        ("1.5*all - all", 0.5, 0.5, 0.5),
        ("2*0.25*attention", 0.5, 0.0, 0.0),
        ("(attention + mlp)*0.5", 0.5, 0.5, 0.0),
        ("all - (mlp - 0.25*mlp)", 1.0, 0.25, 1.0),
        ("all - mlp - 0.25*attention + 0.125*mlp", 0.75, 0.125, 1.0),
        ("0*attention", 0.0, 0.0, 0.0),
    ],
)
def test_weights(selection: str, attention: float, mlp: float, norm: float) -> None:
    found = alphas(selection, LLAMA)
    assert found["model.layers.2.self_attn.o_proj.weight"] == attention
    assert found["model.layers.2.mlp.up_proj.weight"] == mlp
    assert found["model.layers.2.input_layernorm.weight"] == norm


def test_modes_are_what_their_table_says() -> None:
    for mode, selection in MODES.items():
        assert alphas(mode, LLAMA) == alphas(selection, LLAMA)
    assert set(MODES) == {"base", "tuned", "taia", "taif", "taia-qkvo", "taia-strict"}


def test_modes_combine_like_other_names() -> None:
    expected = weights(ATTENTION + NORMS, ALL_LAYERS, OUTSIDE) | weights(MLP, range(3, 4))
    assert alphas("taia + taif[3]", LLAMA) == {n: float(n in expected) for n in LLAMA}


# --- heads ----------------------------------------------------------------------------------------

SELF = "model.layers.1.self_attn."


def test_a_head_is_its_rows_of_q_and_its_columns_of_o() -> None:
    assert kept("attention[1, 2]", LLAMA) == {
        SELF + "q_proj.weight": Pieces(0, ((0, 4, 0.0), (4, 6, 1.0), (6, 8, 0.0))),
        SELF + "o_proj.weight": Pieces(1, ((0, 4, 0.0), (4, 6, 1.0), (6, 8, 0.0))),
    }


def test_rows_of_keys_and_values_are_kept_once_all_their_query_heads_are() -> None:
    assert kept("attention[1, 1:]", LLAMA) == {
        SELF + "q_proj.weight": Pieces(0, ((0, 2, 0.0), (2, 8, 1.0))),
        SELF + "k_proj.weight": Pieces(0, ((0, 2, 0.0), (2, 4, 1.0))),
        SELF + "v_proj.weight": Pieces(0, ((0, 2, 0.0), (2, 4, 1.0))),
        SELF + "o_proj.weight": Pieces(1, ((0, 2, 0.0), (2, 8, 1.0))),
    }


def test_first_head_of_a_pair_brings_no_keys() -> None:
    assert kept("attention[1, ::2]", LLAMA) == {
        SELF + "q_proj.weight": Pieces(0, ((0, 2, 1.0), (2, 4, 0.0), (4, 6, 1.0), (6, 8, 0.0))),
        SELF + "o_proj.weight": Pieces(1, ((0, 2, 1.0), (2, 4, 0.0), (4, 6, 1.0), (6, 8, 0.0))),
    }


def test_every_head_one_by_one_covers_q_and_o_and_nothing_else() -> None:
    union = " + ".join(f"attention[:, {h}:{h + 1}]" for h in range(4))
    expected = weights(["self_attn.q_proj", "self_attn.o_proj"], ALL_LAYERS)
    assert alphas(union, LLAMA) == {name: float(name in expected) for name in LLAMA}


def test_all_heads_at_once_are_all_of_attention() -> None:
    assert alphas("attention[:, :]", LLAMA) == alphas("attention", LLAMA)
    assert alphas("attention[:, -4:]", LLAMA) == alphas("attention", LLAMA)


def test_heads_of_a_weighted_selection_keep_their_weights() -> None:
    assert kept("(q_proj + 0.5*o_proj)[1, 3]", LLAMA) == {
        SELF + "q_proj.weight": Pieces(0, ((0, 6, 0.0), (6, 8, 1.0))),
        SELF + "o_proj.weight": Pieces(1, ((0, 6, 0.0), (6, 8, 0.5))),
    }


def test_all_but_a_head() -> None:
    found = alphas("taia - attention[1, 0]", LLAMA)
    assert found[SELF + "q_proj.weight"] == Pieces(0, ((0, 2, 0.0), (2, 8, 1.0)))
    assert found[SELF + "k_proj.weight"] == 1.0
    assert found["model.layers.0.self_attn.q_proj.weight"] == 1.0


def test_without_a_config_no_head_is_known() -> None:
    nameless = made({name: LLAMA[name].tensor.shape or () for name in LLAMA}, None)
    assert kept("q_proj[1]", nameless) == {SELF + "q_proj.weight": 1.0}
    with pytest.raises(SelectionError, match=r"attention\[:, 0\] matches none of the 39 tensors"):
        alphas("attention[:, 0]", nameless)


# --- GPT-2: Conv1D keeps outputs in columns -------------------------------------------------------


def test_q_k_v_are_thirds_of_the_columns_and_of_the_bias() -> None:
    for selection, pieces in {
        "q_proj[0]": ((0, 8, 1.0), (8, 24, 0.0)),
        "k_proj[0]": ((0, 8, 0.0), (8, 16, 1.0), (16, 24, 0.0)),
        "v_proj[0]": ((0, 16, 0.0), (16, 24, 1.0)),
        "(q_proj + 0.5*v_proj)[0]": ((0, 8, 1.0), (8, 16, 0.0), (16, 24, 0.5)),
    }.items():
        assert kept(selection, GPT2) == {
            "transformer.h.0.attn.c_attn.weight": Pieces(1, pieces),
            "transformer.h.0.attn.c_attn.bias": Pieces(0, pieces),
        }


def test_a_head_of_gpt2_is_in_every_third_and_in_the_rows_of_the_output() -> None:
    thirds = ((0, 6, 0.0), (6, 8, 1.0), (8, 14, 0.0), (14, 16, 1.0), (16, 22, 0.0), (22, 24, 1.0))
    assert kept("attention[1, 3]", GPT2) == {
        "transformer.h.1.attn.c_attn.weight": Pieces(1, thirds),
        "transformer.h.1.attn.c_attn.bias": Pieces(0, thirds),
        "transformer.h.1.attn.c_proj.weight": Pieces(0, ((0, 6, 0.0), (6, 8, 1.0))),
    }


def ones(*names: str) -> dict[str, Alpha]:
    return {f"transformer.h.{i}.{name}": 1.0 for i in range(2) for name in names}


def test_one_name_in_two_components() -> None:
    assert kept("attention.c_proj", GPT2) == ones("attn.c_proj.weight", "attn.c_proj.bias")
    assert kept("mlp.c_proj", GPT2) == ones("mlp.c_proj.weight", "mlp.c_proj.bias")
    assert kept("c_proj", GPT2) == ones(
        "attn.c_proj.weight", "attn.c_proj.bias", "mlp.c_proj.weight", "mlp.c_proj.bias"
    )


def test_canonical_names_on_gpt2() -> None:
    assert kept("o_proj", GPT2) == ones("attn.c_proj.weight", "attn.c_proj.bias")
    assert kept("up_proj", GPT2) == ones("mlp.c_fc.weight", "mlp.c_fc.bias")
    assert kept("down_proj", GPT2) == ones("mlp.c_proj.weight", "mlp.c_proj.bias")
    attention = ("attn.c_attn.weight", "attn.c_attn.bias", "attn.c_proj.weight", "attn.c_proj.bias")
    assert kept("taia-qkvo", GPT2) == ones(*attention)
    assert kept("taia-strict", GPT2) == ones(*attention)


def test_a_mode_is_kept_whole_or_refused() -> None:
    whole = gpt2(config=None)
    with pytest.raises(SelectionError) as caught:
        alphas("taia-qkvo", whole)
    assert "needs q_proj; the rows of transformer.h.0.attn.c_attn.weight" in caught.value.problem
    assert "config.json" in caught.value.mend
    assert alphas("taia", whole) == alphas("taia", GPT2)


def test_a_mode_does_not_pass_over_projections_it_has_no_name_for() -> None:
    """The values of this model are computed some other way: q, k and o would be kept alone."""
    names = [f"model.layers.0.self_attn.{p}.weight" for p in ("q_proj", "k_proj", "o_proj")]
    other = "model.layers.0.self_attn.v_proj_delayed.weight"
    with pytest.raises(SelectionError, match=f"needs v_proj; the rows of {re.escape(other)} are"):
        alphas("taia-qkvo", made(dict.fromkeys([*names, other], (8, 8)), None))


def test_part_of_a_mode_will_do_where_there_is_no_more() -> None:
    """An adapter trained on queries and values alone."""
    names = [f"model.layers.0.self_attn.{p}.weight" for p in ("q_proj", "v_proj")]
    adapter = made(dict.fromkeys(names, (8, 8)), None)
    assert alphas("taia-qkvo", adapter) == dict.fromkeys(names, 1.0)


# --- fused tensors, experts -----------------------------------------------------------------------


def test_fused_queries_keys_and_values() -> None:
    name = "model.layers.0.self_attn.qkv_proj.weight"
    assert kept("k_proj", PHI3) == {name: Pieces(0, ((0, 8, 0.0), (8, 12, 1.0), (12, 16, 0.0)))}
    assert kept("q_proj + v_proj", PHI3) == {
        name: Pieces(0, ((0, 8, 1.0), (8, 12, 0.0), (12, 16, 1.0)))
    }
    assert kept("qkv_proj", PHI3) == {name: 1.0}
    assert kept("attention[0, :2]", PHI3)[name] == Pieces(
        0,
        ((0, 4, 1.0), (4, 8, 0.0), (8, 10, 1.0), (10, 12, 0.0), (12, 14, 1.0), (14, 16, 0.0)),
    )


def test_fused_gate_and_up_are_halves() -> None:
    name = "model.layers.0.mlp.gate_up_proj.weight"
    assert kept("gate_proj", PHI3) == {name: Pieces(0, ((0, 12, 1.0), (12, 24, 0.0)))}
    assert kept("mlp.up_proj", PHI3) == {name: Pieces(0, ((0, 12, 0.0), (12, 24, 1.0)))}
    assert kept("gate_proj + 0.5*up_proj", PHI3) == {name: Pieces(0, ((0, 12, 1.0), (12, 24, 0.5)))}
    assert kept("gate_proj + up_proj", PHI3) == kept("gate_up_proj", PHI3) == {name: 1.0}


def test_gate_and_up_of_gpt_oss_take_turns() -> None:
    experts = "model.layers.0.mlp.experts."
    gate = ((0, 1, 1.0), (1, 2, 0.0), (2, 3, 1.0), (3, 4, 0.0), (4, 5, 1.0), (5, 6, 0.0))
    up = tuple((start, stop, 1.0 - alpha) for start, stop, alpha in gate)
    assert kept("gate_proj", GPT_OSS) == {
        experts + "gate_up_proj": Pieces(2, gate),
        experts + "gate_up_proj_bias": Pieces(1, gate),
    }
    assert kept("up_proj", GPT_OSS) == {
        experts + "gate_up_proj": Pieces(2, up),
        experts + "gate_up_proj_bias": Pieces(1, up),
    }


MIXTURE = [
    "mlp.gate.weight",
    "mlp.experts.gate_up_proj",
    "mlp.experts.down_proj",
    "mlp.shared_expert.gate_proj.weight",
    "mlp.shared_expert.up_proj.weight",
    "mlp.shared_expert.down_proj.weight",
]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("mlp", MIXTURE),
        ("taif", MIXTURE),
        ("router", MIXTURE[:1]),
        ("experts", MIXTURE[1:3]),
        ("shared_experts", MIXTURE[3:]),
        ("mlp - router", MIXTURE[1:]),
        ("down_proj", [MIXTURE[2], MIXTURE[5]]),
        ("shared_experts.down_proj", [MIXTURE[5]]),
        ("experts.down_proj", [MIXTURE[2]]),
    ],
)
def test_parts_of_a_mixture(selection: str, expected: list[str]) -> None:
    names = {f"model.layers.{i}.{name}" for i in range(2) for name in expected}
    assert alphas(selection, MOE) == {name: float(name in names) for name in MOE}


def test_gate_and_up_inside_every_expert() -> None:
    fused = {
        f"model.layers.{i}.mlp.experts.gate_up_proj": Pieces(1, ((0, 6, 1.0), (6, 12, 0.0)))
        for i in range(2)
    }
    shared = {f"model.layers.{i}.mlp.shared_expert.gate_proj.weight": 1.0 for i in range(2)}
    assert kept("gate_proj", MOE) == {**fused, **shared}
    assert kept("experts.gate_proj", MOE) == fused


def test_norms_inside_attention_are_attention_and_belong_to_no_head() -> None:
    inside = {
        f"model.layers.{i}.self_attn.{n}.weight" for i in range(2) for n in ("q_norm", "k_norm")
    }
    assert inside < set(kept("attention", MOE))
    assert not inside & set(kept("norm", MOE))
    assert not inside & set(kept("taia-qkvo", MOE))
    assert not inside & set(kept("attention[:, :]", MOE))


# --- what matches nothing -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("anatomy", "selection", "character", "named", "mend"),
    [
        (LLAMA, "atention", 1, "atention", "did you mean attention?"),
        (LLAMA, "all - mpl", 7, "mpl", "did you mean mlp?"),
        (LLAMA, "all - experts", 7, "experts", "this model has: all, attention, attention_norm"),
        (LLAMA, "attention + q_prj[2:]", 13, "q_prj", "did you mean q_proj?"),
        (LLAMA, "tiaa", 1, "tiaa", "did you mean taia?"),
        (LLAMA, "atention.q_proj", 1, "atention.q_proj", "did you mean attention.q_proj?"),
        (LLAMA, "mlp.q_proj", 1, "mlp.q_proj", "this model has: "),
        (LLAMA, "taia.q_proj", 1, "taia.q_proj", ""),
        (LLAMA, "taia-stric", 6, "stric", "did you mean taia-strict?"),
        (LLAMA, "0*nothing", 3, "nothing", "this model has: "),
        (LLAMA, "mlp + re:mixer", 7, 're:"mixer"', "this model has: "),
        (LLAMA, "mlp[4]", 4, "mlp[4]", "model.layers has layers 0 to 3"),
        (LLAMA, "mlp[-5]", 4, "mlp[-5]", "model.layers has layers 0 to 3"),
        (LLAMA, "attention + mlp[4:]", 16, "mlp[4:]", "model.layers has layers 0 to 3"),
        (LLAMA, "mlp[2:2]", 4, "mlp[2:2]", "model.layers has layers 0 to 3"),
        (LLAMA, "mlp[:2][2:]", 8, "mlp[:2][2:]", "model.layers has layers 0 to 3"),
        (LLAMA, "mlp - taia[9]", 11, "taia[9]", "model.layers has layers 0 to 3"),
        (LLAMA, "head[0]", 5, "head[0]", "model.layers has layers 0 to 3"),
        (LLAMA, "q_proj[0, 4]", 7, "q_proj[0, 4]", "rows divide into heads"),
        (LLAMA, "mlp[0, 0]", 4, "mlp[0, 0]", "rows divide into heads"),
        (LLAMA, "k_proj[:, 0]", 7, "k_proj[:, 0]", "rows divide into heads"),
        (MOE, "q_norm[:, 0]", 7, "q_norm[:, 0]", "rows divide into heads"),
    ],
)
def test_what_matches_nothing_is_named(
    anatomy: Anatomy, selection: str, character: int, named: str, mend: str
) -> None:
    with pytest.raises(SelectionError) as caught:
        alphas(selection, anatomy)
    first, shown, caret = caught.value.problem.splitlines()
    assert first == (
        f"selection, character {character}: {named} matches none of the {len(anatomy)} tensors"
    )
    assert shown == "  " + selection
    assert caret == " " * (character + 1) + "^"
    assert mend in caught.value.mend
    assert ("did you mean" in caught.value.mend) == mend.startswith("did you mean")


@pytest.mark.parametrize(
    ("file", "missing"), [("lm_head", "embedding"), ("model.embed_tokens", "head")]
)
@pytest.mark.parametrize("selection", ["{}", "all - {}", "attention + 0.5*{}"])
def test_a_tied_tensor_goes_by_one_name(file: str, missing: str, selection: str) -> None:
    anatomy = made(
        {f"{file}.weight": (16, 8), "model.layers.0.self_attn.q_proj.weight": (8, 8)}, None
    )
    other = {"head": "embedding", "embedding": "head"}[missing]
    with pytest.raises(SelectionError, match=f"{missing} matches none") as caught:
        alphas(selection.format(missing), anatomy)
    assert caught.value.mend.endswith(f"one tensor here: select {other}")
    assert alphas(selection.format(other), anatomy)[f"{file}.weight"] in (0.0, 0.5, 1.0)


def test_a_model_without_a_feed_forward_block_has_no_taia() -> None:
    names = [f"model.layers.0.self_attn.{p}.weight" for p in ("q_proj", "o_proj")]
    with pytest.raises(SelectionError, match="taif matches none"):
        alphas("taif", made(dict.fromkeys(names, (8, 8)), None))


def test_layers_count_within_each_stack() -> None:
    two = made(
        {f"model.layers.{i}.mlp.up_proj.weight": (4, 4) for i in range(3)}
        | {f"local_decoder.layers.{i}.mlp.up_proj.weight": (4, 4) for i in range(2)},
        None,
    )
    assert set(kept("mlp[-1]", two)) == {
        "model.layers.2.mlp.up_proj.weight",
        "local_decoder.layers.1.mlp.up_proj.weight",
    }


def test_the_order_of_tensors_does_not_matter() -> None:
    """Files often come sorted, layer 10 before layer 2."""
    shuffled = Anatomy(LLAMA[name] for name in reversed(list(LLAMA)))
    for selection in ("mlp[-1]", "taia - attention[1:, 0]", "all - mlp[3:]"):
        assert alphas(selection, shuffled) == alphas(selection, LLAMA)
        assert list(alphas(selection, shuffled)) == list(reversed(list(LLAMA)))


def test_factors_that_overflow_are_refused() -> None:
    with pytest.raises(SelectionError, match="more than a number can hold"):
        alphas("1e200*1e200*mlp", LLAMA)
    with pytest.raises(SelectionError, match="more than a number can hold"):
        alphas("(1e200*1e200*q_proj)[:, 0]", LLAMA)


def test_a_pattern_tells_tensors_apart_that_are_alike_but_for_their_names() -> None:
    anatomy = Anatomy.of_tensors(
        TensorInfo(f"model.layers.0.mlp.experts.{expert}.{side}_proj.weight", (4, 4))
        for expert in range(12)
        for side in ("gate", "up", "down")
    )
    for expert, others in (("1", "experts"), ("11", "0.5*mlp")):
        found = alphas(f"all - {others} + re:'experts[.]{expert}[.]'", anatomy)
        rest = 0.0 if others == "experts" else 0.5
        for name, alpha in found.items():
            assert alpha == (1.0 if name.split(".")[5] == expert else rest), name


@pytest.mark.parametrize("regex", [r"(\w+\.?)+!", "(.*.*)*!", "(?:.?.?.?){30}!"])
@pytest.mark.parametrize("selection", ["re:'{}'", "attention + 0.5*re:'{}'[1:]"])
def test_a_pattern_that_never_ends_is_refused(regex: str, selection: str) -> None:
    text = selection.format(regex)
    with pytest.raises(SelectionError, match="takes too long") as caught:
        alphas(text, LLAMA)
    _, shown, mark = caught.value.problem.splitlines()
    assert shown[mark.index("^")] == "r"


def test_a_pattern_that_people_write_is_taken() -> None:
    assert kept(r"re:'(\w+\.)*(q|k)_proj\.(weight|bias)'", LLAMA) == kept("q_proj + k_proj", LLAMA)
