"""Trains tiny models in this process, one of several, and writes what they came to.

Run by training/test_processes.py, once for all that is asked of two processes; not a test itself.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import FullyShardedDataParallelPlugin, patch_environment

import tiny_models
from cli_runner import inside
from taia.training.accelerate.cpu import fsdp_on_cpu
from taia.training.baselines.regularisers import ewc, l2

STEPS, ROWS = 3, 4


def made(kind):
    model = tiny_models.llama()
    return tiny_models.lora(model) if kind == "lora" else model


def term(kind, model):
    """L2 for the whole model; EWC for an adapter, by an importance that differs in every place."""
    if kind == "full":
        return l2(model, 0.05)
    shapes = {name: weight.shape for name, weight in tiny_models.llama().named_parameters()}
    torch.manual_seed(4)
    return ewc(model, 0.05, {name: torch.rand(shape) for name, shape in shapes.items()})


def batches():
    torch.manual_seed(0)
    return torch.randint(0, 256, (STEPS, ROWS, 10))


def train(kind, model, optimizer, regulariser, rank=0, world=1, backward=torch.Tensor.backward):
    """Each step's loss and penalty."""
    share = ROWS // world
    found = []
    for ids in batches()[:, rank * share : (rank + 1) * share]:
        penalty = regulariser.penalty(model)
        loss = model(input_ids=ids, labels=ids).loss
        backward(loss + penalty)
        optimizer.step()
        optimizer.zero_grad()
        found.append((loss.detach(), penalty.detach()))
    return torch.tensor(found)


def optimizer_of(model):
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)


def in_parallel(kind):
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        activation_checkpointing=True,
        cpu_ram_efficient_loading=True,
    )
    with fsdp_on_cpu():
        accelerator = Accelerator(cpu=True, fsdp_plugin=plugin)
    model = made(kind)
    # Made before the model is split, for one; after, for the other.
    early = term(kind, model) if kind == "full" else None
    model, optimizer = accelerator.prepare(model, optimizer_of(model))
    found = train(
        kind,
        model,
        optimizer,
        early or term(kind, model),
        accelerator.process_index,
        accelerator.num_processes,
        accelerator.backward,
    )
    losses = accelerator.reduce(found, "mean")
    weights = accelerator.get_state_dict(model)
    split = sum(p.to_local().numel() for p in model.parameters())
    kind_of = str(accelerator.distributed_type)
    AcceleratorState._reset_state(reset_partial_state=True)
    return {"losses": losses, "weights": weights, "split": split, "type": kind_of}


def typed(arguments):
    """A command line of ``taia``, in a process that goes on afterwards; how it was split."""
    print(inside(*arguments).stdout, end="")
    kind = str(AcceleratorState().distributed_type)
    AcceleratorState._reset_state(reset_partial_state=True)
    return kind


if __name__ == "__main__":
    kinds = []
    for environment, arguments in json.loads(sys.argv[2]):
        with patch_environment(**environment):
            kinds.append(typed(arguments))
    os.environ["FSDP_VERSION"] = "2"
    results = {kind: in_parallel(kind) for kind in ("full", "lora")}
    results["typed"] = kinds
    # The control: what accelerate does by itself.
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2)
    results["alone"] = str(Accelerator(cpu=True, fsdp_plugin=plugin).distributed_type)
    if torch.distributed.get_rank() == 0:
        torch.save(results, Path(sys.argv[1]))
    torch.distributed.destroy_process_group()
