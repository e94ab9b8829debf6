"""Training in two processes (gloo, CPU) is training in one."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

import tiny_models
from taia.checkpoint.compose import compose

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="this PyTorch has no gloo",
)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_models.save_llama(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    rows = [{"instruction": "a" * (i % 5 + 1), "output": f"no {i}"} for i in range(16)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(arguments, launcher=()):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, *launcher, "-m", "taia", "train", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )


@pytest.mark.parametrize("technique", ["lora", "full"])
@pytest.mark.parametrize("how", ["torchrun", "fsdp"])
def test_two_processes_give_the_losses_and_the_model_of_one(base, data, tmp_path, technique, how):
    common = [base, "--data", data, "--technique", technique, "--lora-dropout", 0, "--seed", 3]
    common += ["--learning-rate", 1e-2, "--lora-r", 4, "--warmup-steps", 0, "--max-grad-norm", 0.5]
    one, two = tmp_path / "one", tmp_path / "two"
    alone = run([*common, "--per-device-train-batch-size", 4, "--output", one])
    assert alone.returncode == 0, alone.stderr
    half = [*common, "--per-device-train-batch-size", 2, "--output", two]
    if how == "torchrun":
        together = run(half, ("-m", "torch.distributed.run", "--nproc-per-node", "2"))
    else:
        together = run([*half, "--accelerate", "fsdp", "--processes", 2])
    assert together.returncode == 0, together.stderr
    assert together.stdout.count("parameters trained") == 1
    losses = [
        [step["loss"] for step in json.loads((folder / "taia_config.json").read_text())["steps"]]
        for folder in (one, two)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    (file,) = one.glob("*model.safetensors")
    mine, theirs = load_file(file), load_file(two / file.name)
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        torch.testing.assert_close(theirs[name], tensor, rtol=0, atol=5e-3)
    done = compose(base, two, tmp_path / "taia")
    assert done.written
