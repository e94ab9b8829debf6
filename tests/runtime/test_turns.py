"""Threads: they run one at a time, and nobody switches under another's feet."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from switchables import IDS, adapted, logits
from taia import SwitchableModel
from taia.errors import RunError


@pytest.fixture
def model():
    return SwitchableModel.wrap(adapted("llama"))


def elsewhere(act, *arguments):
    """What comes of it in another thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(act, *arguments).result(timeout=60)


def test_another_thread_runs_in_the_mode_of_a_block(model):
    """As when one thread generates and the other reads the stream."""
    with model.mode("taia"):
        assert torch.equal(elsewhere(logits, model), logits(model))


def test_another_thread_does_not_switch_inside_a_block(model):
    with model.mode("taia"):
        before = logits(model)
        for act in (model.set_mode, lambda mode: model.mode(mode).__enter__()):
            with pytest.raises(RunError, match="another thread"):
                elsewhere(act, "base")
        with pytest.raises(RunError, match="another thread"):
            elsewhere(lambda: logits(model, modes=["base", "taia"]))
        assert torch.equal(logits(model), before)
    elsewhere(model.set_mode, "base")
    assert model.current == "base"


def test_a_switch_waits_for_the_pass_of_another_thread(model):
    inside, go_on = threading.Event(), threading.Event()

    def stop_in_the_middle(*_):
        inside.set()
        assert go_on.wait(60)

    wanted = logits(model)
    layer = model.model.get_base_model().model.layers[1]
    handle = layer.register_forward_pre_hook(stop_in_the_middle)
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(logits, model)
        assert inside.wait(60)
        switching = pool.submit(model.set_mode, "base")
        assert not switching.done()
        assert model.current == "tuned"
        handle.remove()
        go_on.set()
        assert torch.equal(running.result(60), wanted)
        switching.result(60)
    assert model.current == "base"


def test_a_pass_is_not_switched_from_within(model):
    found = []

    def switch(*_):
        with pytest.raises(RunError, match="in the middle"):
            model.set_mode("base")
        found.append(model.current)

    model.model.get_base_model().model.layers[1].register_forward_pre_hook(switch)
    logits(model)
    assert found == ["tuned"]


def test_many_threads_with_rows_each_get_their_own(model):
    modes = ["base", "tuned", "taia", "taif"]
    wanted = {}
    for mode in modes:
        with model.mode(mode):
            wanted[mode] = logits(model, IDS[[0, 0]])
    pairs = [(one, other) for one in modes for other in modes] * 3
    with ThreadPoolExecutor(8) as pool:
        found = [*pool.map(lambda p: logits(model, IDS[[0, 0]], modes=[*p]), pairs)]
    for (one, other), rows in zip(pairs, found, strict=True):
        assert torch.equal(rows[0], wanted[one][0])
        assert torch.equal(rows[1], wanted[other][1])
    assert model.current == "tuned"
