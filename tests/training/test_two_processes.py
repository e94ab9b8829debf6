"""Two processes with the model split between them train as one process does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import two_processes as script

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    out = tmp_path_factory.mktemp("two") / "found.pt"
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("ACCELERATE_", "FSDP_"))}
    paths = [ROOT / "src", ROOT / "tests", *filter(None, [os.environ.get("PYTHONPATH")])]
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*program, ROOT / "tests" / "two_processes.py", out],
        env={
            **inherited,
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "OMP_NUM_THREADS": "1",
            "FSDP_VERSION": "2",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(out, weights_only=True)


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_losses_penalties_and_weights_are_those_of_one_process(two, kind):
    model = script.made(kind)
    regulariser = script.term(kind, model)
    expected = script.train(kind, model, script.optimizer_of(model), regulariser)
    torch.testing.assert_close(two[kind]["losses"], expected, rtol=1e-4, atol=1e-5)
    assert expected[-1, 1] > 0.001, "the penalty takes part"
    start, trained = script.made(kind).state_dict(), model.state_dict()
    assert two[kind]["weights"].keys() == trained.keys()
    moved = 0
    for name, weight in trained.items():
        torch.testing.assert_close(two[kind]["weights"][name], weight, rtol=1e-3, atol=1e-4)
        moved += not torch.equal(weight, start[name])
    assert moved


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_each_process_holds_half(two, kind):
    whole = sum(p.numel() for p in script.made(kind).parameters())
    assert two[kind]["type"] == "DistributedType.FSDP"
    assert two[kind]["split"] == pytest.approx(whole / 2, rel=0.01)


def test_accelerate_still_needs_help_with_this(two):
    """When it does not, ``fsdp_on_cpu`` can go."""
    assert two["alone"] == "DistributedType.MULTI_CPU"
