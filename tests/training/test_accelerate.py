"""The configurations as accelerate itself reads them, down to the plugin that results."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import (
    DeepSpeedPlugin,
    DistributedType,
    FullyShardedDataParallelPlugin,
    patch_environment,
)
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from torch.distributed.fsdp import StateDictType

from taia.errors import InputError
from taia.training.accelerate import NAMES, accelerate_config, relaunch_command

TYPES = {
    "ddp": DistributedType.MULTI_GPU,
    "fsdp": DistributedType.FSDP,
    "zero3": DistributedType.DEEPSPEED,
}


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """No setting of accelerate's from outside; no port of this machine is asked for."""
    import os

    for name in os.environ:
        if name.startswith(("ACCELERATE_", "FSDP_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr("accelerate.utils.launch.is_port_in_use", lambda _: False)
    monkeypatch.setattr("accelerate.utils.launch.get_free_port", lambda: 12345)


def launched(name, argv=("train", "m"), processes=2):
    """What accelerate makes of the command: its arguments, validated with the file."""
    command = relaunch_command(name, argv, processes)
    assert command[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
    arguments, _, _ = _validate_launch_command(launch_command_parser().parse_args(command[3:]))
    return arguments


def test_every_file_is_a_name():
    assert set(NAMES) == set(TYPES)
    assert all(accelerate_config(name).is_file() for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_accelerate_knows_every_key(name):
    config = load_config_from_file(str(accelerate_config(name)))
    assert config.distributed_type == TYPES[name]
    assert config.mixed_precision == "no", "the recipe says"
    known = set(vars(launch_command_parser().parse_args(["script"])))
    written = yaml.safe_load(accelerate_config(name).read_text(encoding="utf-8"))
    nested = [key for value in written.values() if isinstance(value, dict) for key in value]
    assert set(nested) <= known
    assert bool(nested) == (name != "ddp")


def test_accelerate_would_complain_of_a_key_it_does_not_know(tmp_path):
    """The control: the loader that the test above trusts does refuse."""
    file = tmp_path / "made_up.yaml"
    file.write_text(accelerate_config("ddp").read_text() + "made_up: 1\n")
    with pytest.raises(ValueError, match="made_up"):
        load_config_from_file(str(file))


def test_fsdp_gives_the_plugin_it_says():
    arguments = launched("fsdp")
    assert arguments.use_fsdp
    with patch_environment(**prepare_multi_gpu_env(arguments)):
        plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert plugin.auto_wrap_policy.__name__ == "transformer_auto_wrap_policy"
    assert plugin.transformer_cls_names_to_wrap is None, "the model says which"
    assert plugin.activation_checkpointing
    assert plugin.state_dict_type == StateDictType.SHARDED_STATE_DICT
    assert plugin.cpu_ram_efficient_loading
    assert type(plugin.cpu_offload).__name__ == "OffloadPolicy"


def test_zero3_gives_the_plugin_it_says():
    arguments = launched("zero3")
    assert arguments.use_deepspeed
    arguments.deepspeed_fields_from_accelerate_config = "zero_stage"
    _, environment = prepare_deepspeed_cmd_env(arguments)
    assert environment["ACCELERATE_MIXED_PRECISION"] == "no", "the recipe says"
    with patch_environment(**environment):
        plugin = DeepSpeedPlugin()
    zero = plugin.deepspeed_config["zero_optimization"]
    assert zero["stage"] == 3
    assert zero["stage3_gather_16bit_weights_on_model_save"] is True
    assert zero["offload_optimizer"]["device"] == zero["offload_param"]["device"] == "none"
    assert plugin.zero3_init_flag
    plugin.set_mixed_precision("bf16")
    assert plugin.deepspeed_config["bf16"]["enabled"]


def test_ddp_is_one_copy_for_each_gpu():
    arguments = launched("ddp", processes=4)
    assert arguments.multi_gpu
    assert not arguments.use_fsdp
    assert arguments.num_processes == 4


@pytest.mark.parametrize("name", NAMES)
def test_relaunching_hands_on_every_argument(name):
    argv = ["train", "my model", "--data", "a.json:0.8", "--output", "-", "--num_processes", "9"]
    arguments = launched(name, argv, 3)
    assert (arguments.module, arguments.training_script) == (True, "taia")
    assert arguments.training_script_args == argv
    assert arguments.num_processes == 3
    assert arguments.main_process_port == 0, "any that is free"


def test_without_a_number_there_is_a_process_for_each_gpu(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 8)
    assert launched("ddp", processes=None).num_processes == 8
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    with pytest.raises(InputError, match="no GPU"):
        relaunch_command("ddp", [], None)


def test_what_cannot_be_launched_is_refused():
    with pytest.raises(InputError, match="ddp, fsdp or zero3"):
        accelerate_config("zero2")
    with pytest.raises(InputError):
        accelerate_config("../accelerate/fsdp")
    with pytest.raises(InputError, match="at least one"):
        relaunch_command("fsdp", [], 0)


def test_the_module_prints_the_path_without_torch():
    program = "-X importtime -m taia.training.accelerate fsdp".split()
    done = subprocess.run([sys.executable, *program], capture_output=True, text=True)
    assert done.returncode == 0
    assert Path(done.stdout.strip()) == accelerate_config("fsdp")
    assert "torch" not in done.stderr
    wrong = subprocess.run([sys.executable, *program[2:-1], "no"], capture_output=True, text=True)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "'no'" in wrong.stderr
