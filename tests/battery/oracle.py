"""What PEFT and transformers make of a model and its adapter, and of a part of that adapter.

A part is made by hand: PEFT's wrappers around what is dropped are taken out of the live model, and
biases get their old values back. taia's labels and selections have no part in it.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from peft.utils import AuxiliaryTrainingWrapper
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from battery.families import Family
from battery.kinds import TOKENS

IDS = torch.tensor([[5, *TOKENS, 9, 20, 7, 31], [1, 40, 11, 2, 3, 18, 33, 6]])

logging.getLogger("transformers").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module="peft|transformers")


def auto_class(family: Family) -> Any:
    """The class that transformers loads models of a family by."""
    return AutoModelForImageTextToText if family.sees else AutoModelForCausalLM


def random_model(family: Family) -> Any:
    """A small model in which nothing is zero, as zeros would hide mistakes; bfloat16's numbers."""
    torch.manual_seed(7)
    config = AutoConfig.for_model(family.model_type, **copy.deepcopy(dict(family.config)))
    made = auto_class(family).from_config(config, dtype=torch.float32)
    for parameter in made.parameters():
        spread = 0.2 if parameter.dim() > 1 else 0.1
        parameter.data = (parameter + torch.randn_like(parameter) * spread).bfloat16().float()
    made.tie_weights()
    return made.eval()


def trained(base: Any, options: dict[str, Any]) -> Any:
    """A copy of the base with an adapter in float32, after something like training."""
    model = get_peft_model(copy.deepcopy(base), LoraConfig(r=4, lora_alpha=8, **options))
    torch.manual_seed(11)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter + torch.randn_like(parameter) * 0.1
    return model.eval()


def save(model: Any, folder: Path) -> None:
    """An adapter as a user has it, but for the model card, whose template PEFT compiles anew."""
    with mock.patch.object(PeftModel, "create_or_update_model_card"):
        model.save_pretrained(folder)


def adapted(base: Any, adapter: Path) -> Any:
    """A copy of the base with an adapter; fails unless PEFT used every tensor and missed none."""
    results = []

    def load(*args: Any, **kwargs: Any) -> Any:
        results.append(set_peft_model_state_dict(*args, **kwargs))
        return results[-1]

    with (
        mock.patch("peft.peft_model.set_peft_model_state_dict", load),
        warnings.catch_warnings(record=True) as told,
    ):
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(copy.deepcopy(base), adapter)
    missing = [str(item.message) for item in told if "missing adapter keys" in str(item.message)]
    assert not missing, missing
    assert [result.unexpected_keys for result in results] == [[]]
    return model.eval()


@contextmanager
def without(model: Any, base: Any, drops: Callable[[str], bool]) -> Iterator[None]:
    """For a while, a model without the updates of the modules whose paths are to be dropped."""
    inner = model.get_base_model()
    taken, biases = [], []
    for path, module in list(inner.named_modules()):
        if ".base_layer" in path or not drops(path):
            continue
        if isinstance(module, LoraLayer):
            plain = module.get_base_layer()
        elif isinstance(module, AuxiliaryTrainingWrapper):
            plain = module.original_module
        else:
            continue
        holder, _, name = path.rpartition(".")
        taken.append((inner.get_submodule(holder), name, module, plain))
    before = dict(base.named_parameters())
    for name, parameter in inner.named_parameters():
        path = name.replace(".base_layer", "")
        if path.endswith("bias") and "lora_" not in name and path in before and drops(path):
            biases.append((parameter, parameter.data, before[path].data))
    for owner, name, _, plain in taken:
        setattr(owner, name, plain)
    for parameter, _, plain in biases:
        parameter.data = plain
    try:
        yield
    finally:
        for owner, name, module, _ in taken:
            setattr(owner, name, module)
        for parameter, tuned, _ in biases:
            parameter.data = tuned


def merged(model: Any) -> Any:
    """PEFT's own merge, of a copy.

    Where head and embedding share a tensor and each has a low-rank update, PEFT merges both into
    that one tensor, and warns of it: the weights are cloned first, as the warning says.
    """
    apart = copy.deepcopy(model)
    inner = apart.get_base_model()
    ends = inner.get_input_embeddings(), inner.get_output_embeddings()
    if any(isinstance(end, LoraLayer) for end in ends):
        plain = ends[1].get_base_layer() if isinstance(ends[1], LoraLayer) else ends[1]
        plain.weight = torch.nn.Parameter(plain.weight.detach().clone())
    return apart.merge_and_unload()


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    """Scores of every next token of a fixed input, without a cache."""
    scores: torch.Tensor = model(input_ids=IDS, use_cache=False).logits
    return scores
