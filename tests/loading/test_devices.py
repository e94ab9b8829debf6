"""Names of devices, against what PyTorch has here."""

import pytest
import torch

from taia.errors import InputError
from taia.loading.devices import device_called

ACCELERATOR = torch.accelerator.current_accelerator(check_available=True)


@pytest.mark.parametrize("name", ["cpu", "cpu:0", torch.device("cpu")])
def test_the_cpu_has_one_name(name):
    assert device_called(name) == "cpu"


def test_none_is_the_best():
    assert device_called(None) == ("cpu" if ACCELERATOR is None else ACCELERATOR.type)


@pytest.mark.skipif(ACCELERATOR is None, reason="there is no accelerator")
def test_an_accelerator_by_number():
    assert device_called(f"{ACCELERATOR.type}:0") == f"{ACCELERATOR.type}:0"


@pytest.mark.parametrize(
    "name",
    ["cuda:99", "mps:7", "xpu:99", "foo", "CUDA", "cuda:x", "cpu:-1", "", "meta", "gpu"],
)
def test_what_is_not_here_is_told_with_what_is(name):
    with pytest.raises(InputError, match="no device") as told:
        device_called(name)
    assert repr(name) in told.value.problem
    assert len(told.value.problem) < 300
    assert "cpu" in told.value.mend
    assert (ACCELERATOR is not None) == (f"{getattr(ACCELERATOR, 'type', '')}:0" in told.value.mend)
