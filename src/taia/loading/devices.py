"""Where to compute."""

from __future__ import annotations

from taia.errors import InputError, blaming, first_line


def device_called(name: str | None) -> str:
    """The device that a name means, as PyTorch calls it: ``cpu``, ``cuda:1``, ``mps``.

    Only torch is loaded for it, and a number put there: a name that is well-formed may be of what
    this machine, or this build of PyTorch, does not have.

    Args:
        name: As PyTorch takes it; ``None`` for the accelerator if there is one, else the CPU.

    Raises:
        InputError: If there is no such device here.
    """
    import torch

    if name is None:
        best = torch.accelerator.current_accelerator(check_available=True)
        return "cpu" if best is None else best.type
    problem, mend = f"There is no device {str(name)!r} here", f"Choose from {', '.join(_there())}."
    with blaming(InputError, problem, mend, telling=_sentence):
        device = torch.device(name)
        torch.empty(1, device=device)
    if device.type == "meta":
        raise InputError(f"{problem} that computes.", mend)
    return "cpu" if device.type == "cpu" else str(device)


def _sentence(error: BaseException) -> str:
    """Of what PyTorch says, which can be a page."""
    return first_line(error).partition(". ")[0]


def _there() -> list[str]:
    """What can be chosen."""
    import torch

    best = torch.accelerator.current_accelerator(check_available=True)
    count = 0 if best is None else torch.accelerator.device_count()
    return ["cpu", *(f"{best.type}:{number}" for number in range(count) if best is not None)]
