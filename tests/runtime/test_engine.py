"""Whatever runs beside it, an answer is what transformers writes to its prompt alone."""

import random
import threading
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny_models
from taia.errors import InputError, RunError
from taia.runtime.caches import cache_of
from taia.runtime.engine import Engine
from taia.runtime.generation import Generated, Generation
from taia.runtime.switchable import SwitchableModel

V = tiny_models.VOCABULARY
LLAMA = tiny_models.LLAMA
MODES = ("base", "tuned", "taia", "taif")

JOINED = {
    "llama": ("llama", LLAMA),
    "absolute positions": (
        "gpt2",
        {"vocab_size": V, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    ),
    "absolute positions from the mask": (
        "opt",
        {**LLAMA, "ffn_dim": 48, "word_embed_proj_dim": 32, "max_position_embeddings": 64},
    ),
    "biases": ("qwen2", LLAMA),
    "sliding window": ("mistral", {**LLAMA, "sliding_window": 4}),
    "alternating windows, soft-capped logits": (
        "gemma2",
        {**LLAMA, "head_dim": 8, "sliding_window": 4, "final_logit_softcapping": 5.0},
    ),
    "alibi from the mask": (
        "bloom",
        {"vocab_size": V, "hidden_size": 32, "n_layer": 2, "n_head": 4},
    ),
    "relative alibi": ("mpt", {"vocab_size": V, "d_model": 32, "n_layers": 2, "n_heads": 4}),
    "latent attention": (
        "deepseek_v3",
        {
            **LLAMA,
            "num_key_value_heads": 4,
            "q_lora_rank": 8,
            "kv_lora_rank": 8,
            "qk_rope_head_dim": 4,
            "qk_nope_head_dim": 8,
            "v_head_dim": 6,
            "first_k_dense_replace": 2,
        },
    ),
    "experts": ("mixtral", {**LLAMA, "num_local_experts": 4, "sliding_window": None}),
}
ALONE = {
    "hybrid": ("lfm2", {**LLAMA, "layer_types": ["conv", "full_attention"]}),
    "recurrent": ("mamba", {"vocab_size": V, "hidden_size": 32, "num_hidden_layers": 2}),
    "learned positions that padding moves": (
        "bart",
        {
            "vocab_size": V,
            "d_model": 32,
            "decoder_layers": 2,
            "decoder_attention_heads": 4,
            "decoder_ffn_dim": 48,
            "max_position_embeddings": 64,
            "is_decoder": True,
            "is_encoder_decoder": False,
            "forced_eos_token_id": None,
        },
    ),
}


def requests(count=8, modes=("base",), seed=3, longest=10):
    rng = random.Random(seed)
    return [
        Generation(
            rng.choice(modes),
            tuple(rng.randrange(256) for _ in range(rng.randint(1, longest))),
            rng.randint(1, longest),
        )
        for _ in range(count)
    ]


def alone(model, request):
    """What transformers writes, without a batch."""
    prompt = torch.tensor([request.prompt])
    out = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=request.max_new_tokens,
        do_sample=False,
        eos_token_id=None,
    )
    return out[0, len(request.prompt) :].tolist()


def ids(answer):
    return [token.id for token in answer.tokens]


def tuned_pair():
    """A base, and a checkpoint that is tuned everywhere."""
    base, tuned = tiny_models.llama(), tiny_models.llama()
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return base, tuned


@cache
def switchable(kind):
    if kind == "adapter":
        return SwitchableModel.wrap(tiny_models.lora(tiny_models.llama()))
    return SwitchableModel.wrap(*tuned_pair())


@cache
def pool(kind):
    """Requests in all modes, and what is written to each alone."""
    model = switchable(kind)
    asked = requests(12, MODES)
    expected = []
    for request in asked:
        with model.mode(request.mode):
            expected.append(alone(model.model, request))
    return asked, expected


def engine(model=None, **options):
    model = model or switchable("adapter")
    return Engine(model, tiny_models.tokenizer(), **options)


@contextmanager
def forwards(model):
    """The shape of the tokens of each forward."""
    seen = []
    handle = model.get_input_embeddings().register_forward_hook(
        lambda _, inputs, __: seen.append(tuple(inputs[0].shape))
    )
    try:
        yield seen
    finally:
        handle.remove()


def finished(running):
    """Step until nothing is left; the answers by ticket."""
    parts = {}
    while running.has_work:
        for part in running.step():
            parts.setdefault(part.ticket, []).append(part)
    return {ticket: Generated.of(found) for ticket, found in parts.items()}


@pytest.mark.parametrize("name", [*JOINED, *ALONE])
def test_every_architecture_as_alone(name):
    kind, config = {**JOINED, **ALONE}[name]
    model = tiny_models.model(kind, **config)
    running = engine(SwitchableModel.wrap(model), max_rows=3)
    asked = requests()
    for request in asked[:2]:
        running.add(replace(request, max_new_tokens=2))
    running.step()
    with forwards(model) as seen:
        running.step()
    assert len(seen) == (1 if name in JOINED else 2)
    running.abort()
    expected = [alone(model, request) for request in asked]
    assert [ids(answer) for answer in running.generate(asked)] == expected


@pytest.mark.parametrize("name", [*JOINED, *ALONE])
@pytest.mark.parametrize("head", [7, 8, 30])
def test_prompts_that_begin_alike_as_alone(name, head):
    """Own parts longer than the head, and shorter, so that heads run again in part or whole."""
    kind, config = {**JOINED, **ALONE}[name]
    model = tiny_models.model(kind, **config)
    asked = [
        replace(one, prompt=tuple(range(40, 40 + head)) + one.prompt) for one in requests(seed=5)
    ]
    expected = [alone(model, request) for request in asked]
    assert [
        ids(answer) for answer in engine(SwitchableModel.wrap(model), max_rows=5).generate(asked)
    ] == expected


@pytest.mark.parametrize("kind", ["adapter", "pair"])
def test_what_prompts_begin_with_runs_once_in_each_mode(kind):
    model = switchable(kind)
    head = tuple(range(20))
    asked = [Generation(mode, (*head, 30 + n, 7), 1) for mode in MODES for n in range(3)]
    expected = []
    for request in asked:
        with model.mode(request.mode):
            expected.append(alone(model.model, request))
    running = engine(model)
    with forwards(model.model) as seen:
        assert [ids(answer) for answer in running.generate(asked)] == expected
    assert sum(rows * width for rows, width in seen) == len(MODES) * 20 + len(asked) * 2
    with forwards(model.model) as seen:  # what ran for others is not gone on from
        running.generate([Generation("base", (1,) * 12 + (n,), 1) for n in range(2)])
    assert sum(rows * width for rows, width in seen) == 12 + 2


def test_offline_prompts_do_not_begin_one_by_one():
    running = engine(max_rows=8)
    asked = [Generation("base", (1, 2, n), 1 + n % 7) for n in range(60)]
    with forwards(switchable("adapter").model) as seen:
        running.generate(asked)
    prompts = [rows for rows, width in seen if width > 1]
    assert sum(prompts) == 60
    assert min(prompts[:-1]) >= 2


def test_offline_modes_share_a_batch_only_to_fill_it():
    model = switchable("adapter")
    running, seen = engine(model, max_rows=8), []
    handle = model.model.register_forward_pre_hook(
        lambda *_: seen.append(len(set(model.current.split(", "))))
    )
    try:
        running.generate([Generation(mode, (1, 2, n), 4) for mode in MODES for n in range(2)])
        assert max(seen) == len(MODES)
        seen.clear()
        running.generate([Generation(mode, (1, 2, n), 4) for mode in MODES for n in range(7)])
        assert max(seen) == 1
    finally:
        handle.remove()


@pytest.mark.parametrize("kind", ["adapter", "pair"])
@pytest.mark.parametrize("max_rows", [1, 4, 32])
def test_every_mode_as_alone(kind, max_rows):
    asked, expected = pool(kind)
    running = engine(switchable(kind), max_rows=max_rows)
    assert [ids(answer) for answer in running.generate(asked)] == expected
    assert switchable(kind).can_mix == (kind == "adapter")


@pytest.mark.parametrize("kind", ["adapter", "pair"])
def test_control_other_modes_write_something_else(kind):
    """With each row in its neighbour's mode the test above would fail."""
    asked, expected = pool(kind)
    turned = dict(zip(MODES, [*MODES[1:], MODES[0]], strict=True))
    wrong = [replace(request, mode=turned[request.mode]) for request in asked]
    found = [ids(answer) for answer in engine(switchable(kind)).generate(wrong)]
    assert sum(a != b for a, b in zip(found, expected, strict=True)) > len(asked) // 2


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 11)),
        st.tuples(st.just("cancel"), st.integers(0, 20)),
        st.just(("step", 0)),
    ),
    max_size=25,
)


@settings(max_examples=15, deadline=None)
@given(events=EVENTS, max_rows=st.integers(1, 5), kind=st.sampled_from(["adapter", "pair"]))
def test_any_order_of_arrivals_and_cancels(events, max_rows, kind):
    asked, expected = pool(kind)
    running = engine(switchable(kind), max_rows=max_rows)
    of_ticket, parts, cancelled = {}, {}, set()

    def step():
        for part in running.step():
            parts[part.ticket].append(part)

    for event, number in events:
        if event == "add":
            ticket = running.add(asked[number])
            of_ticket[ticket], parts[ticket] = number, []
        elif event == "cancel":
            running.cancel(number)
            cancelled.add(number)
        else:
            step()
    while running.has_work:
        step()
    for ticket, number in of_ticket.items():
        answer = Generated.of(parts[ticket])
        assert sum(part.finish is not None for part in parts[ticket]) == 1
        want = expected[number]
        if answer.finish == "cancelled":
            assert ticket in cancelled
            assert ids(answer) == want[: len(answer.tokens)]
            assert len(answer.tokens) < len(want)
        else:
            assert ids(answer) == want
    with forwards(switchable(kind).model) as seen:  # of what has ended nothing is computed any more
        running.add(asked[0])
        running.step()
    assert len(seen) == 1
    running.abort()


def test_rows_that_end_leave_no_padding():
    model, seen = switchable("adapter"), []

    def look(_, __, given, said):
        widths = {layer.keys.shape[2] for layer in cache_of(said).layers}
        seen.append((len(given["input_ids"]), widths))

    running = engine(model, max_rows=3)
    running.add(Generation("base", tuple(range(40)), 2))
    running.add(Generation("taia", (1, 2, 3), 20))
    running.add(Generation("base", (5,), 20))
    handle = model.model.register_forward_hook(look, with_kwargs=True)
    try:
        for _ in range(6):
            running.step()
    finally:
        handle.remove()
    # The prompts, one by one; the long row is gone after its second token; of the others the longer
    # one has 4 columns by then, and one more a step.
    assert seen[:3] == [(1, {40}), (1, {3}), (1, {1})]
    assert seen[3:] == [(3, {41}), (2, {5}), (2, {6}), (2, {7}), (2, {8})]


def test_one_forward_a_step_where_modes_mix():
    model = switchable("adapter")
    running = engine(model, max_rows=8)
    with forwards(model.model) as seen:
        for mode in MODES:
            running.add(Generation(mode, (1, 2, 3), 5))
        finished(running)
    assert seen == [(4, 3), *[(4, 1)] * 4]


def test_text_tokens_and_reasons():
    letters = {ord("A") - 33: 200.0}  # the alphabet of bytes begins with "!"
    running = engine()
    prompt = tuple(tiny_models.tokenizer()("hello").input_ids)
    base = Generation("base", prompt, 4, logit_bias=letters)
    [a] = tiny_models.tokenizer()("A").input_ids
    assert {a} == set(letters)
    whole, stopped, late, ended = running.generate(
        [
            base,
            replace(base, stop=("AA",)),
            replace(base, stop=("AAB", "nowhere")),
            replace(base, end=frozenset([a])),
        ]
    )
    assert (whole.text, len(whole.tokens), whole.finish) == ("AAAA", 4, "length")
    assert (stopped.text, len(stopped.tokens), stopped.finish) == ("", 2, "stop")
    assert (late.text, late.finish) == ("AAAA", "length")
    assert (ended.text, ended.tokens, ended.finish) == ("", (), "stop")


def test_log_probabilities_are_the_models_own():
    model = switchable("adapter")
    prompt = (5, 6, 7)
    request = Generation(
        "taia", prompt, 3, logprobs=4, logit_bias={9: 100.0}, temperature=0.5, seed=1
    )
    [answer] = engine().generate([request])
    assert ids(answer) == [9, 9, 9]
    with model.mode("taia"), torch.no_grad():
        logs = model.model(torch.tensor([[*prompt, 9, 9]])).logits[0, 2:].double().log_softmax(-1)
    for place, token in enumerate(answer.tokens):
        assert token.logprob == pytest.approx(float(logs[place, 9]), abs=1e-4)
        best = logs[place].topk(4)
        assert [index for index, _ in token.alternatives] == best.indices.tolist()
        assert [value for _, value in token.alternatives] == pytest.approx(
            best.values.tolist(), abs=1e-4
        )


def test_draws_do_not_depend_on_the_neighbours():
    drawn = Generation("taia", (1, 2, 3), 8, temperature=1.5, seed=11)
    [lonely] = engine().generate([drawn])
    crowd = [
        replace(request, temperature=1.0, seed=number)
        for number, request in enumerate(requests(6, MODES))
    ]
    answers = engine(max_rows=4).generate([*crowd, drawn])
    assert answers[-1] == lonely
    [other] = engine().generate([replace(drawn, seed=12)])
    assert other != lonely


def test_an_answer_ends_where_positions_do():
    model = tiny_models.llama(max_position_embeddings=16)
    running = engine(SwitchableModel.wrap(model))
    [answer] = running.generate([Generation("base", tuple(range(10)), 50)])
    assert (len(answer.tokens), answer.finish, running.max_length) == (6, "length", 16)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mode": "no such"}, "no mode"),
        ({"prompt": ()}, "empty"),
        ({"prompt": (V,)}, "no token"),
        ({"prompt": (-1,)}, "no token"),
        ({"prompt": (1,) * 3000}, "positions"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"logprobs": -1}, "logprobs"),
        ({"stop": ("",)}, "stop"),
        ({"logit_bias": {V: 1.0}}, "no token"),
        ({"logit_bias": {1: float("nan")}}, "finite"),
    ],
)
def test_what_makes_no_sense_is_refused_when_it_is_asked(change, words):
    running = engine()
    wrong = replace(Generation("base", (1, 2), 3), **change)
    with pytest.raises(InputError, match=words):
        running.add(wrong)
    with pytest.raises(InputError, match=words):
        running.generate([Generation("base", (1,), 2), wrong])
    assert not running.has_work


def test_a_failed_forward_loses_nothing_silently():
    running = engine(max_rows=2)
    tickets = [running.add(Generation("base", (1, 2), 5)) for _ in range(3)]
    running.step()

    def fail(*_):
        raise MemoryError

    handle = switchable("adapter").model.get_input_embeddings().register_forward_pre_hook(fail)
    try:
        with pytest.raises(MemoryError):
            running.step()
    finally:
        handle.remove()
    with pytest.raises(RunError, match="abort"):
        running.step()
    assert running.has_work
    assert running.abort() == tickets
    assert not running.has_work
    asked, expected = pool("adapter")
    assert [ids(answer) for answer in running.generate(asked)] == expected


def test_offline_in_order_and_told():
    asked, expected = pool("adapter")
    told = []
    answers = engine(max_rows=3).generate(asked, told.append)
    assert [ids(answer) for answer in answers] == expected
    assert sum(told) == len(asked)
    assert 0 not in told
    assert engine().generate([]) == []


def test_offline_leaves_the_answers_of_others_alone():
    running = engine()
    running.add(Generation("base", (1,), 2))
    with pytest.raises(RunError):
        running.generate([Generation("base", (1,), 2)])
    assert running.has_work


def test_offline_stopped_by_its_caller_leaves_nothing():
    running = engine()

    def stop(_count):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        running.generate(pool("adapter")[0], stop)
    assert not running.has_work


def test_dropout_is_off_and_comes_back():
    model = SwitchableModel.wrap(tiny_models.lora(tiny_models.llama(), lora_dropout=0.9))
    asked = [Generation("tuned", (1, 2, 3), 6)]
    expected = [ids(a) for a in engine(model).generate(asked)]
    model.model.train()
    assert [ids(a) for a in engine(model).generate(asked)] == expected
    assert model.model.training


def test_waiting_for_work():
    running = engine()
    assert not running.wait(0)
    adder = threading.Timer(0, lambda: running.add(Generation("base", (1,), 1)))
    adder.start()
    assert running.wait(30)
    adder.join()
    assert len(finished(running)) == 1


def test_asked_from_many_threads():
    asked, expected = pool("adapter")
    running = engine(max_rows=4)
    tickets = {}

    def ask(numbers):
        for number in numbers:
            tickets[number] = running.add(asked[number])

    threads = [threading.Thread(target=ask, args=(range(first, 12, 3),)) for first in range(3)]
    for thread in threads:
        thread.start()
    parts = {}
    while any(thread.is_alive() for thread in threads) or running.has_work:
        if running.wait(0.01):
            for part in running.step():
                parts.setdefault(part.ticket, []).append(part)
    assert [ids(Generated.of(parts[tickets[number]])) for number in range(12)] == expected


def test_at_least_one_row():
    with pytest.raises(InputError, match="max_rows"):
        engine(max_rows=0)
