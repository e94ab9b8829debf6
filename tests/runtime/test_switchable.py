"""One model, many modes: the same behaviour whatever the update is."""

import copy

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tiny_models
from switchables import IDS, KINDS, adapted, logits, noisy, pair
from taia import SwitchableModel
from taia.errors import AdapterError, MismatchError, RunError, SelectionError
from taia.selection import MODES


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def test_the_ends_are_base_and_tuned_bit_for_bit(kind):
    make, base, tuned = kind
    model = make()
    assert model.current == "tuned"
    assert torch.equal(logits(model), logits(tuned()))
    with model.mode("base"):
        assert torch.equal(logits(model), logits(base()))
    assert not torch.equal(logits(model), logits(base())), "the update does nothing"


def test_modes_differ_and_everything_comes_back(kind):
    model = kind[0]()
    before = {"tuned": logits(model)}
    grads = [p.requires_grad for p in model.model.parameters()]
    for mode in ("base", "taia", "taif", "0.5*all"):
        with model.mode(mode):
            assert model.current == mode
            before[mode] = logits(model)
            with pytest.raises(RuntimeError, match="on purpose"), model.mode("attention"):
                raise RuntimeError("on purpose")
            assert torch.equal(logits(model), before[mode]), "an inner mode stayed"
    assert torch.equal(logits(model), before["tuned"])
    assert grads == [p.requires_grad for p in model.model.parameters()]
    found = [*before.values()]
    assert not [1 for i, x in enumerate(found) for y in found[:i] if torch.equal(x, y)]


def test_a_mode_is_the_same_however_one_comes_to_it(kind):
    model = kind[0]()
    wanted = {}
    for mode in model.modes:
        with model.mode(mode):
            wanted[mode] = logits(model)
    for mode in ("taif", "base", "taif", "tuned", "0.3*all", "taia", "base"):
        model.set_mode(mode)
        if mode in wanted:
            assert torch.equal(logits(model), wanted[mode]), mode


def test_adding_up():
    """α of attention and α of the FFN do not meddle with each other's tensors."""
    model = pair("llama", "layers.")
    state = {}
    for mode in ("base", "tuned", "all - mlp", "mlp", "attention + 0.5*mlp"):
        with model.mode(mode):
            state[mode] = {n: p.detach().clone() for n, p in model.model.named_parameters()}
    for name, base in state["base"].items():
        tuned = state["tuned"][name]
        ffn = ".mlp." in name
        assert torch.equal(state["all - mlp"][name], base if ffn else tuned)
        assert torch.equal(state["mlp"][name], tuned if ffn else base)
        if ffn:
            half = base + 0.5 * (tuned - base)
            torch.testing.assert_close(state["attention + 0.5*mlp"][name], half)


@pytest.fixture(scope="module")
def walked():
    model = pair("llama")
    adapter = SwitchableModel.wrap(adapted("llama"))
    return [(m, {n: _in(m, n) for n in m.modes}) for m in (model, adapter)]


def _in(model, mode):
    with model.mode(mode):
        return logits(model)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(("set", "enter", "leave", "rows")),
            st.sampled_from(("base", "tuned", "taia", "taif")),
        ),
        max_size=8,
    )
)
def test_any_walk_of_sets_and_blocks(walked, walk):
    """A stack of blocks and nothing else tells what the model is in."""
    for model, wanted in walked:
        model.set_mode("tuned")
        blocks, now = [], "tuned"
        for step, mode in walk:
            if step == "leave" or (step == "rows" and not model.can_mix):
                if blocks:
                    block, now = blocks.pop()
                    block.__exit__(None, None, None)
            elif step == "set":
                model.set_mode(mode)
                now = mode
            else:
                block = model.mode(mode) if step == "enter" else model.rows([mode, mode])
                block.__enter__()
                blocks.append((block, now))
                now = mode
            assert model.current == now
        found = logits(model)
        for block, _ in reversed(blocks):
            block.__exit__(None, None, None)
        assert torch.equal(found, wanted[now])


def test_modes_are_named_or_written():
    model = SwitchableModel.wrap(adapted("llama"), modes={"half": "attention + 0.5*mlp"})
    assert dict(model.modes) == {"base": "none", "tuned": "all", "half": "attention + 0.5*mlp"}
    by_name = _in(model, "half")
    assert torch.equal(_in(model, "attention + 0.5*mlp"), by_name)
    assert not torch.equal(_in(model, "0.5*mlp"), by_name)
    model.add_mode("strict", "attention")
    assert torch.equal(_in(model, "strict"), _in(model, MODES["taia-qkvo"]))
    model.add_mode("strict", "taia-qkvo")  # the same by another name
    assert model.modes["strict"] == "attention"
    for name, selection in (("strict", "mlp"), ("base", "mlp"), ("tuned", "attention")):
        with pytest.raises(SelectionError, match="already"):
            model.add_mode(name, selection)
    with pytest.raises(SelectionError, match="tuned"):
        SwitchableModel.wrap(adapted("llama"), modes={"tuned": "mlp"})
    with pytest.raises(SelectionError, match="half, strict"):
        model.set_mode("no such thing")
    assert model.current == "tuned"


def test_a_name_wins_over_a_selection():
    model = SwitchableModel.wrap(adapted("llama"), modes={"attention": "mlp"})
    assert torch.equal(_in(model, "attention"), _in(model, "taif"))


def test_a_base_alone_has_one_mode():
    model = SwitchableModel.wrap(tiny_models.llama())
    assert (dict(model.modes), model.current) == ({"base": "none"}, "base")
    assert torch.equal(logits(model, modes=["base", "base"]), logits(tiny_models.llama()))
    for mode in ("tuned", "taia"):
        with pytest.raises(AdapterError, match="only a base model"):
            model.set_mode(mode)


def test_what_is_no_model_of_ours_is_refused():
    plain = adapted("llama").get_base_model()
    with pytest.raises(AdapterError, match="no PeftModel"):
        SwitchableModel.wrap(plain)
    with pytest.raises(AdapterError, match="one of the two"):
        SwitchableModel.wrap(adapted("llama"), tiny_models.llama())


def test_wrapping_anew_begins_from_what_was_found():
    for make, _, tuned in (KINDS["lora llama"], KINDS["checkpoint llama"]):
        old = make()
        old.set_mode("taif")
        update = None if hasattr(old.model, "get_base_model") else tuned()
        new = SwitchableModel.wrap(old.model, update)
        assert torch.equal(logits(new), logits(tuned()))
        with pytest.raises(RunError, match="anew"):
            old.set_mode("base")
        with new.mode("taia"):
            assert not torch.equal(logits(new), logits(tuned()))
            with pytest.raises(RunError, match="block"):
                SwitchableModel.wrap(new.model, update)


def test_a_copy_of_the_model_is_a_model_of_its_own():
    model = SwitchableModel.wrap(adapted("llama"))
    tuned = logits(model)
    twin = copy.deepcopy(model.model)
    model.set_mode("base")
    assert torch.equal(logits(twin), tuned)
    with twin.disable_adapter():
        assert torch.equal(logits(twin), logits(model))
    assert model.current == "base"
    assert torch.equal(logits(twin.merge_and_unload()), logits(adapted("llama").merge_and_unload()))


def test_nothing_is_held_twice():
    tuned = noisy(tiny_models.llama(), "layers.1.mlp")
    base = tiny_models.llama()
    own = {p.data_ptr() for p in base.parameters()}
    theirs = {n: p.data_ptr() for n, p in tuned.named_parameters()}
    model = SwitchableModel.wrap(base, tuned)
    now = {n: p.data_ptr() for n, p in base.named_parameters()}
    changed = {n for n, place in now.items() if place not in own}
    assert changed == {n for n in theirs if "layers.1.mlp" in n}
    assert all(now[n] == theirs[n] for n in changed), "copied"
    parameters = dict(base.named_parameters())
    model.set_mode("base")
    assert {p.data_ptr() for p in base.parameters()} == own
    assert all(parameters[n] is p for n, p in base.named_parameters())


def test_a_view_does_not_keep_its_owner():
    big = torch.randn(100, 32, 32)
    state = dict(noisy(tiny_models.llama(), "o_proj").state_dict())
    name = "model.layers.0.self_attn.o_proj.weight"
    state[name] = big[7]
    model = SwitchableModel.wrap(tiny_models.llama(), state)
    live = dict(model.model.named_parameters())[name]
    assert torch.equal(live, big[7])
    assert live.untyped_storage().nbytes() == live.nbytes


def test_minus_zero_and_nan_are_told_apart_bit_by_bit():
    base, tuned = tiny_models.llama(), tiny_models.llama()
    for model in (base, tuned):
        model.model.norm.weight.data[0] = float("nan")
    name = "model.layers.0.input_layernorm.weight"
    dict(base.named_parameters())[name].data[0] = 0.0
    dict(tuned.named_parameters())[name].data[0] = -0.0
    model = SwitchableModel.wrap(base, tuned)
    live = dict(model.model.named_parameters())[name]
    assert torch.signbit(live[0])
    with model.mode("base"):
        assert not torch.signbit(live[0])


def test_pairs_that_do_not_belong_together_are_refused():
    wider = tiny_models.llama(intermediate_size=64)
    longer = tiny_models.llama(num_hidden_layers=3)
    for tuned, words in (
        (wider, "intermediate_size"),
        (longer, "num_hidden_layers"),
        (tiny_models.llama(rope_theta=500.0), "positions"),
        (tiny_models.llama(rms_norm_eps=0.1), "rms_norm_eps"),
        (tiny_models.llama().to(torch.bfloat16), "bfloat16"),
        (wider.state_dict(), r"\[64, 32\]"),
        (longer.state_dict(), "layers.2"),
    ):
        with pytest.raises(MismatchError, match=words):
            SwitchableModel.wrap(tiny_models.llama(), tuned)
    tied = tiny_models.llama(tie_word_embeddings=True)
    state = {n: t.clone() for n, t in tied.state_dict().items()}
    assert len(SwitchableModel.wrap(tied, state).modes) == 4
    state["lm_head.weight"] += 1
    with pytest.raises(MismatchError, match=r"lm_head.weight is model.embed_tokens.weight"):
        SwitchableModel.wrap(tied, state)


def test_a_model_that_was_moved_is_not_switched():
    model = pair("llama")
    model.model.to(torch.bfloat16)
    with pytest.raises(Exception, match="moved or exchanged"):
        model.set_mode("base")
    assert model.current == "tuned"


def test_saving_a_checkpoint_saves_the_mode(tmp_path):
    from tiny_adapters import load_base

    model = pair("llama")
    with model.mode("taia"):
        model.model.save_pretrained(tmp_path)
        wanted = logits(model)
    assert torch.equal(logits(load_base(tmp_path)), wanted)


def test_sizes_and_places_are_the_models():
    model = SwitchableModel.wrap(adapted("llama"))
    assert model.config is model.model.get_base_model().config
    assert (model.dtype, model.device.type) == (torch.float32, "cpu")
    assert model.generate(IDS, max_new_tokens=2, pad_token_id=2).shape[1] <= 14
