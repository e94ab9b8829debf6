"""What a forward pass computes, and what it leaves alone."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import tiny_models
from taia.runtime.forward import Forward


class Largest(TorchDispatchMode):
    """The most numbers that an operation gives.

    Inference mode would hide what a linear layer is made of: ``no_grad`` shows it.
    """

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.numbers = max(self.numbers, out.numel())
        return out


@pytest.mark.parametrize("keep", [1, 3])
@pytest.mark.parametrize("frozen", [True, False])
def test_the_head_is_never_copied(keep, frozen):
    model = tiny_models.llama(vocab_size=4000).requires_grad_(not frozen)
    ids = torch.arange(8 * 12).reshape(8, 12)
    head = model.get_output_embeddings().weight.numel()
    with torch.no_grad(), Largest() as seen:
        logits, _ = Forward(model)(ids, keep)
    with torch.no_grad():
        assert torch.equal(logits, model(ids).logits[:, -keep:])
    assert seen.numbers <= max(head, logits.numel())


def test_the_control_copies_it_for_each_row():
    model = tiny_models.llama(vocab_size=4000).requires_grad_(False)
    head = model.get_output_embeddings().weight.numel()
    with torch.no_grad(), Largest() as seen:
        model(torch.arange(8 * 12).reshape(8, 12), logits_to_keep=3)
    assert seen.numbers >= 8 * head
