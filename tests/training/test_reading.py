"""Recipes: where their values come from, and what is refused."""

import dataclasses
from importlib.util import find_spec

import pytest
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from taia.errors import InputError, SelectionError
from taia.training import reading
from taia.training.arguments import arguments
from taia.training.reading import presets, read_recipe, to_yaml
from taia.training.recipe import Recipe


def test_flags_win_over_the_file_and_the_file_over_the_preset(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text("lora_r: 4\nlora_alpha: 5\ndata: one.json\n")
    recipe = read_recipe({"lora_r": 2}, config=file, preset="taia-safety")
    assert (recipe.lora_r, recipe.lora_alpha, recipe.learning_rate) == (2, 5, 1e-3)
    assert recipe.data == ["one.json"]


def test_the_papers_presets_are_the_papers():
    lora = read_recipe(preset="taia-lora")
    assert (lora.lora_r, lora.lora_alpha, lora.rate, lora.lora_dropout) == (16, 32, 2e-4, 0.05)
    assert lora.per_device_train_batch_size * lora.gradient_accumulation_steps == 64
    molora = read_recipe(preset="taia-molora")
    assert (molora.technique, molora.num_experts, molora.top_k) == ("molora", 4, 1)
    safety = read_recipe(preset="taia-safety")
    assert (safety.lora_r, safety.lora_alpha, safety.rate) == (32, 64, 1e-3)
    assert read_recipe(preset="taia-full").rate == 5e-5
    medcare = read_recipe(preset="medcare-molora")
    assert (medcare.num_experts, medcare.top_k, medcare.shared_expert) == (8, 2, 2)


@pytest.mark.parametrize("name", presets())
def test_presets_and_their_yaml_read_back_as_the_same(name, tmp_path):
    recipe = read_recipe({"lora_ranks": {"mlp": 4}, "data": ["ä.json:0.5"]}, preset=name)
    (tmp_path / "again.yaml").write_text(to_yaml(recipe), encoding="utf-8")
    assert read_recipe(config=tmp_path / "again.yaml") == recipe


def test_the_learning_rate_is_the_techniques_unless_given():
    assert read_recipe({"technique": "full"}).rate == 5e-5
    assert read_recipe({"technique": "full", "learning_rate": 1.0}).rate == 1.0


def test_held_out_is_a_share_a_number_or_a_file():
    assert Recipe(validation="0.1").held_out == 0.1
    assert Recipe(validation="20").held_out == 20
    assert type(Recipe(validation="20").held_out) is int
    assert Recipe(validation="held.json").held_out == "held.json"
    assert Recipe().held_out is None


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"lora_rank": 4}, "Did you mean lora_r"),
        ({"lora_r": "four"}, "lora_r cannot be 'four'"),
        ({"lora_r": "four"}, "must be a whole number"),
        ({"seed": 1.5}, "must be a whole number"),
        ({"use_dora": "perhaps"}, "must be true or false"),
        ({"data": 5}, "must be a list"),
        ({"lora_r": 0}, "at least 1"),
        ({"learning_rate": 0.0}, "more than 0"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"lora_dropout": 1.0}, "below 1"),
        ({"technique": "prefix"}, "technique"),
        ({"technique": "molora", "top_k": 5}, "only 4 experts"),
        ({"technique": "full", "use_dora": True}, "full has no DoRA"),
        ({"max_steps": 0}, "max_steps"),
        ({"regulariser": "l2"}, "regulariser_strength"),
        ({"regulariser": "ewc", "regulariser_strength": 1.0}, "fisher_data"),
        ({"early_stopping_patience": 2}, "needs validation"),
        ({"packing": True, "mixing": "annealed"}, "mixing"),
        ({"bf16": True, "fp16": True}, "fp16"),
        ({"report_to": ["telegraph"]}, "none of tensorboard"),
        ({"learning_rates": {"mlp": -1.0}}, "mlp=-1"),
        ({"optim": "adamw"}, "optim cannot be 'adamw'"),
        ({"optim": "ADAMW_TORCH"}, "Did you mean adamw_torch?"),
        ({"optim": ""}, "It knows adamw_torch, "),
        ({"lr_scheduler_type": "cosine_annealing"}, "lr_scheduler_type"),
        ({"attn_implementation": "foo"}, "It knows eager, "),
        ({"attn_implementation": "sdpaa"}, "Did you mean sdpa?"),
        ({"attn_implementation": "Eager"}, "Did you mean eager?"),
        ({"attn_implementation": ""}, "It knows eager, "),
        ({"format": "alpacca"}, "alpaca"),
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "needs validation"),
        ({"lr_scheduler_type": "greedy"}, "needs validation"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(values, says):
    with pytest.raises(InputError) as caught:
        read_recipe(values)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("key", "kind"), [("optim", OptimizerNames), ("lr_scheduler_type", SchedulerType)]
)
def test_every_name_of_transformers_is_known_and_told(key, kind):
    names = [name.value for name in kind]
    read = [read_recipe({key: name, "validation": "5"}) for name in names]
    assert [getattr(recipe, key) for recipe in read] == names
    with pytest.raises(InputError) as caught:
        read_recipe({key: "no such name"})
    assert caught.value.mend.endswith(f"It knows {', '.join(names)}.")


def test_every_attention_of_transformers_is_known_and_told():
    names = ["eager", *ALL_ATTENTION_FUNCTIONS.valid_keys()]
    here = [name for name in names if not name.startswith("flash_attention")]
    assert len(here) < len(names)
    assert [read_recipe({"attn_implementation": n}).attn_implementation for n in here] == here
    with pytest.raises(InputError) as caught:
        read_recipe({"attn_implementation": "no such name"})
    assert {*caught.value.mend.removeprefix("It knows ").rstrip(".").split(", ")} == {*names}


@pytest.mark.parametrize(
    "name", ["flash_attention_2", "flash_attention_3", "org/kernel", "org/kernel@v1:flash"]
)
@pytest.mark.parametrize("installed", [True, False])
def test_attention_that_needs_a_package_is_refused_without_it(name, installed, monkeypatch):
    there = find_spec("json") if installed else None
    monkeypatch.setattr(reading, "find_spec", lambda m: there if m == "kernels" else find_spec(m))
    if installed:
        assert read_recipe({"attn_implementation": name}).attn_implementation == name
        return
    with pytest.raises(InputError, match=r"kernels, which is not installed"):
        read_recipe({"attn_implementation": name})


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "min_lr"),
        ({"lr_scheduler_type": "warmup_stable_decay"}, "num_decay_steps"),
        ({"optim": "galore_adamw"}, "galore"),
        ({"optim": "apollo_adamw_layerwise"}, "apollo"),
        ({"optim": "lomo"}, "lomo"),
        ({"optim": "grokadamw"}, "grokadamw"),
    ],
)
def test_what_needs_more_than_a_recipe_has_is_refused_without_a_model(values, says, tmp_path):
    with pytest.raises(InputError) as caught:
        arguments(read_recipe(values), tmp_path, cpu=True)
    assert says in caught.value.problem


@pytest.mark.parametrize(
    "values",
    [{"optim": "adafactor"}, {"optim": "sgd"}, {"lr_scheduler_type": "polynomial"}]
    + [{"lr_scheduler_type": name} for name in ("linear", "constant", "inverse_sqrt")]
    + [{"lr_scheduler_type": "reduce_lr_on_plateau", "validation": "5"}],
)
def test_what_needs_no_more_is_taken(values, tmp_path):
    made = arguments(read_recipe(values), tmp_path, cpu=True)
    key, value = next(iter(values.items()))
    assert getattr(made, key) == value


@pytest.mark.parametrize("key", ["train", "lora_ranks", "learning_rates"])
def test_a_selection_that_cannot_be_read_is_refused_before_any_work(key):
    value = "attention[" if key == "train" else {"attention[": 1}
    with pytest.raises(SelectionError, match="character 11"):
        read_recipe({key: value})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lora_r: [", "line 1"),
        ("- a\n- b\n", "a list"),
        ("lora_rank: 3\n", "recipe.yaml: there is no key 'lora_rank'"),
    ],
)
def test_a_wrong_file_is_refused_by_its_name(tmp_path, text, says):
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=r"recipe\.yaml") as caught:
        read_recipe(config=file)
    assert says in str(caught.value)


def test_a_file_that_is_not_there_and_an_unknown_preset_are_refused(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        read_recipe(config=tmp_path / "nowhere.yaml")
    with pytest.raises(InputError, match="taia-lora"):
        read_recipe(preset="taia")


def test_an_empty_file_is_the_defaults(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text("\n")
    assert read_recipe(config=file) == Recipe()


def test_every_key_says_what_it_does():
    for key in dataclasses.fields(Recipe):
        assert key.metadata["help"].endswith((".", ":")), key.name
        assert key.metadata["group"]
