"""The estimate against what torch really keeps, and against numbers that others have printed."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

import tiny_models
from taia.errors import InputError
from taia.training.forecast.estimate import (
    NF4_BYTES,
    OPTIMISERS,
    PlannedRun,
    activation_bytes,
    estimate,
    flops_per_token,
)
from taia.training.forecast.shape import Shape, shape_of

SMALL = {
    "hidden_size": 64,
    "intermediate_size": 172,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
SEVEN = Shape(32, 4096, 11008, 32, 32, 128, 32000)


def model(**config):
    return tiny_models.llama(**{**SMALL, **config}).train()


def by_component(named):
    counts = dict.fromkeys(("attention", "mlp", "norm", "embedding", "head"), 0)
    for name, parameter in named:
        kind = next(
            kind
            for part, kind in {
                "self_attn": "attention",
                "mlp": "mlp",
                "norm": "norm",
                "embed": "embedding",
                "lm_head": "head",
            }.items()
            if part in name
        )
        counts[kind] += parameter.numel()
    return {kind: count for kind, count in counts.items() if count}


def run(technique="full", **options):
    return PlannedRun(
        technique, **{"batch": 2, "length": 48, "rows": 10, "compute_bytes": 4, **options}
    )


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("llama", {**SMALL, "tie_word_embeddings": True}),
        ("qwen3", {**SMALL, "head_dim": 32}),
        ("mistral", SMALL),
    ],
)
def test_parameters_are_counted_as_the_model_has_them(kind, options):
    config = AutoConfig.for_model(kind, vocab_size=500, **options)
    with torch.device("meta"):
        made = AutoModelForCausalLM.from_config(config)
    real = by_component(made.named_parameters())
    if kind == "qwen3":  # norms of queries and keys, which the shape leaves out
        real["attention"] -= 2 * config.num_hidden_layers * config.head_dim
    assert shape_of(config).parameters() == real


def test_sizes_that_differ_between_layers_count_at_their_largest():
    config = AutoConfig.for_model("gemma3n_text", num_hidden_layers=3)
    config.intermediate_size = [64, 256, 128]
    assert shape_of(config).intermediate == 256
    hybrid = shape_of(AutoConfig.for_model("gemma4_text"))
    assert hybrid.head_width == max(
        layer.head_dim for layer in AutoConfig.for_model("gemma4_text").per_layer_config
    )


def test_a_mixture_counts_the_experts_a_token_goes_through():
    config = AutoConfig.for_model("qwen3_moe", num_experts_per_tok=4, moe_intermediate_size=96)
    assert shape_of(config).intermediate == 4 * 96


def test_a_model_without_attention_is_refused():
    with pytest.raises(InputError, match=r"mamba.*num_attention_heads"):
        shape_of(AutoConfig.for_model("mamba"))


@pytest.mark.parametrize("rank", [1, 8])
def test_adapters_are_counted_as_peft_makes_them(rank):
    from peft import LoraConfig, get_peft_model

    plain = model()
    shape = shape_of(plain.config)
    tuned = get_peft_model(plain, LoraConfig(target_modules="all-linear", r=rank))
    real = by_component((n, p) for n, p in tuned.named_parameters() if p.requires_grad)
    real.pop("head", None)
    assert shape.lora(rank) == real
    one = shape.molora(rank, 1)
    routers = shape.layers * (2 * shape.hidden + shape.intermediate)
    assert one["mlp"] == real["mlp"] + routers
    four = shape.molora(rank, 4)
    assert four == {"attention": real["attention"], "mlp": 4 * one["mlp"]}


def saved_bytes(made, batch, length):
    """Bytes autograd keeps below the head, without parameters and attention's mask."""
    own = {p.untyped_storage().data_ptr() for p in made.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own and tensor.shape != (batch, 1, length, length):
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    ids = torch.randint(0, 256, (batch, length))
    # A padded row, so that attention needs its mask.
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    inner = made.get_base_model().model if hasattr(made, "get_base_model") else made.model
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = inner(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        out.sum().backward()
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("options", [{}, {"adapter_dropout": True}], ids=["plain", "dropout"])
@pytest.mark.parametrize("technique", ["full", "lora"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_activations_are_what_autograd_keeps(technique, attention, options):
    made = model(attn_implementation=attention)
    made.set_attn_implementation(attention)
    setting = run(technique, eager_attention=attention == "eager", **options)
    expected = activation_bytes(shape_of(made.config), setting)
    if technique == "lora":
        from peft import LoraConfig, get_peft_model

        # On a CPU dropout's mask is of the input's type, and not of bytes.
        inputs = 6 * made.config.hidden_size + made.config.intermediate_size
        expected += 2 * 48 * 3 * inputs * (4 - 1) if options else 0
        config = LoraConfig(target_modules="all-linear", r=1, lora_dropout=0.1 if options else 0)
        made = get_peft_model(made, config).train()
        made.enable_input_require_grads()
    assert saved_bytes(made, setting.batch, setting.length) == pytest.approx(expected, rel=0.02)


def test_checkpointing_keeps_a_layers_input():
    """Measured as the difference a layer makes: the layer that is whole cancels."""

    def measured(layers):
        made = model(num_hidden_layers=layers)
        made.gradient_checkpointing_enable({"use_reentrant": False})
        return saved_bytes_of_inputs(made)

    setting = run(checkpointing=True)
    shapes = [shape_of(model(num_hidden_layers=n).config) for n in (2, 5)]
    expected = [activation_bytes(shape, setting) for shape in shapes]
    assert measured(5) - measured(2) == expected[1] - expected[0]
    assert expected[1] < activation_bytes(shapes[1], run())


def saved_bytes_of_inputs(made):
    """What the layers are given: all that non-reentrant checkpointing keeps of them."""
    kept = {}

    def note(module, args, kwargs):
        hidden = args[0] if args else kwargs["hidden_states"]
        kept[hidden.untyped_storage().data_ptr()] = (hidden.untyped_storage().nbytes(), hidden)

    for layer in made.model.layers:
        layer.register_forward_pre_hook(note, with_kwargs=True)
    ids = torch.randint(0, 256, (2, 48))
    made(input_ids=ids, use_cache=False).logits.sum()
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize(
    ("optimiser", "dtype"), [("adamw", torch.float32), ("adamw_16bit", torch.bfloat16)]
)
@pytest.mark.parametrize("technique", ["full", "lora"])
def test_weights_gradients_and_optimiser_are_what_torch_holds(technique, optimiser, dtype):
    made = model().to(dtype)
    parameters = by_component(made.named_parameters())
    shape = shape_of(made.config)
    if technique == "lora":
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(target_modules="all-linear", r=4)
        made = get_peft_model(made, config, autocast_adapter_dtype=False)
    trains = [p for p in made.parameters() if p.requires_grad]
    stepped = torch.optim.AdamW(trains)
    made(input_ids=torch.ones(1, 4, dtype=torch.long)).logits.sum().backward()
    stepped.step()
    moments = [
        value for state in stepped.state.values() for key, value in state.items() if key != "step"
    ]
    size = dtype.itemsize
    trained = parameters if technique == "full" else shape.lora(4)
    setting = run(
        technique,
        optimiser=optimiser,
        frozen_bytes=size,
        trained_bytes=size,
        compute_bytes=size,
    )
    found = estimate(parameters, trained, shape, setting)

    def held(tensors):
        return sum(each.numel() * each.element_size() for each in tensors)

    assert found.weights == held(made.parameters())
    assert found.gradients == held(p.grad for p in trains)
    assert found.optimiser == held(moments)


def test_mixed_precision_takes_sixteen_bytes_a_parameter_and_zero_splits_them():
    """Rajbhandari et al., figure 1: 7.5 B parameters take 120 GB, and 1.9 GB on 64 with ZeRO-3."""
    parameters = {"mlp": 7_500_000_000}
    shape = Shape(1, 1, 1, 1, 1, 1, 1)
    setting = {"trained_bytes": 2, "compute_bytes": 2, "optimiser": "adamw_master"}
    one = estimate(parameters, parameters, shape, run(**setting))
    many = estimate(parameters, parameters, shape, run(**setting, processes=64, sharding="zero3"))
    assert one.weights + one.gradients + one.optimiser == 120_000_000_000
    assert many.weights + many.gradients + many.optimiser == 120_000_000_000 / 64


def test_ddp_splits_nothing_and_adds_its_buckets():
    counts = SEVEN.parameters()
    alone = estimate(counts, SEVEN.lora(16), SEVEN, run("lora"))
    ddp = estimate(counts, SEVEN.lora(16), SEVEN, run("lora", processes=8, sharding="ddp"))
    assert (ddp.weights, ddp.optimiser, ddp.exchange) == (
        alone.weights,
        alone.optimiser,
        alone.gradients,
    )
    assert alone.exchange == 0


def test_qlora_quantises_linear_layers_only():
    counts = SEVEN.parameters()
    found = estimate(counts, {"mlp": 0}, SEVEN, run("qlora")).weights
    linear = counts["attention"] + counts["mlp"]
    rest = sum(counts.values()) - linear
    assert found == math.ceil(linear * NF4_BYTES + 2 * rest)
    assert found < 0.3 * estimate(counts, {"mlp": 0}, SEVEN, run("lora")).weights


def test_floating_point_operations_follow_what_trains():
    counts, adapters = SEVEN.parameters(), SEVEN.lora(16)
    through = sum(counts.values()) - counts["embedding"]
    attention = 12 * 32 * 4096 * 48
    full = flops_per_token(counts, counts, SEVEN, run())
    assert full == 6 * through + attention
    lora = flops_per_token(counts, adapters, SEVEN, run("lora"))
    assert lora == 4 * through + 6 * sum(adapters.values()) + attention
    attention_only = {"attention": counts["attention"]}
    assert flops_per_token(counts, attention_only, SEVEN, run()) == (
        4 * through + 2 * counts["attention"] + attention
    )
    again = flops_per_token(counts, counts, SEVEN, run(checkpointing=True))
    assert again == 8 * through + attention * 4 / 3


def test_operations_are_what_torch_counts():
    from torch.utils.flop_counter import FlopCounterMode

    made = model(attn_implementation="eager")
    made.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter:
        made(input_ids=torch.ones(2, 48, dtype=torch.long)).logits.sum().backward()
    counts = by_component(made.named_parameters())
    expected = 2 * 48 * flops_per_token(counts, counts, shape_of(made.config), run())
    # The first layer's input is the embedding, which needs a gradient too: nothing is left out.
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.01)


def test_steps_tokens_and_seconds():
    counts = SEVEN.parameters()
    setting = run(rows=1001, epochs=2, batch=4, accumulation=8, processes=2, length=100)
    found = estimate(counts, counts, SEVEN, setting, tokens_per_second=1000)
    assert (found.steps, found.tokens, found.seconds) == (math.ceil(2002 / 64), 200200, 200.2)
    by_rate = estimate(counts, counts, SEVEN, setting, flops_per_second=1e14)
    assert by_rate.seconds == by_rate.flops / 2e14
    assert estimate(counts, counts, SEVEN, setting).seconds is None


@settings(max_examples=40, deadline=None)
@given(
    processes=st.integers(2, 64),
    batch=st.integers(1, 8),
    technique=st.sampled_from(["full", "lora", "qlora"]),
    checkpointing=st.booleans(),
)
def test_more_processes_never_need_more_and_the_parts_make_the_total(
    processes, batch, technique, checkpointing
):
    counts = SEVEN.parameters()
    trained = counts if technique == "full" else SEVEN.lora(8)

    def sharded(count):
        setting = run(
            technique,
            batch=batch,
            checkpointing=checkpointing,
            processes=count,
            sharding="fsdp",
        )
        return estimate(counts, trained, SEVEN, setting)

    some, more = sharded(processes), sharded(processes + 1)
    assert more.total <= some.total
    assert some.total == sum(
        getattr(some, name)
        for name in ("weights", "gradients", "optimiser", "activations", "logits", "exchange")
    )


@pytest.mark.parametrize(
    ("options", "word"),
    [({"batch": 0}, "batch"), ({"epochs": 0}, "epochs"), ({"optimiser": "adam"}, "adam")],
)
def test_numbers_that_make_no_sense_are_refused(options, word):
    with pytest.raises(InputError, match=word):
        estimate(SEVEN.parameters(), SEVEN.parameters(), SEVEN, run(**options))


def test_more_trained_than_there_is_is_refused():
    with pytest.raises(InputError, match="router"):
        estimate(SEVEN.parameters(), {"router": 5}, SEVEN, run())
    assert set(OPTIMISERS) >= {"adamw", "adamw_master"}
