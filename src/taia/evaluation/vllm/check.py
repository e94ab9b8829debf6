"""Whether an engine answers in the modes that it was given: its numbers beside transformers'.

A server can load an adapter and answer as the base, as another adapter, or with a part of it, and
say nothing (vllm-project/vllm issues 30931, 34186, 48974, 51594). So two prompts are rated in every
mode by transformers in float32, then by the engine, token by token. The engine passes where each
mode's numbers are transformers' up to the rounding of its dtype, and stand at that mode: not at
base or another mode, nor between.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from taia.errors import RunError

if TYPE_CHECKING:
    import torch

    from taia.runtime.switchable import SwitchableModel

#: Root mean square in nats that the log-probabilities of tokens may be off, by the engine's dtype.
#: On the prompts here rounding to bfloat16 moves those of SmolLM2-135M by 0.053 and of Qwen2.5-0.5B
#: by 0.041, to float16 by 0.0074 and 0.0050.
ALLOWED: Final[Mapping[str, float]] = {"float32": 0.01, "float16": 0.03, "bfloat16": 0.2}
#: How many standard errors a mode's place between two references may be off, how far it may be off
#: in any case, and the largest standard error with which places can be told apart.
_ERRORS: Final = 4.0
_LEAST: Final = 0.05
BLUR: Final = 0.1
_MEND: Final = "Try --dtype float32, another version of vLLM, or leave --engine vllm out."


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a mode's numbers stand between another mode's reference and its own.

    Attributes:
        share: 0 at the other's, 1 at its own.
        blur: Standard error of that, from how far the numbers are off their own reference.
    """

    share: float
    blur: float

    @property
    def is_its_own(self) -> bool:
        """Whether they stand at their own, and surely not at the other's."""
        return self.blur <= BLUR and abs(self.share - 1) <= self._slack

    @property
    def is_the_others(self) -> bool:
        return abs(self.share) <= self._slack

    @property
    def _slack(self) -> float:
        return max(_LEAST, _ERRORS * self.blur)


def references(
    model: SwitchableModel, modes: Sequence[str], asked: Sequence[Sequence[int]]
) -> dict[str, list[torch.Tensor]]:
    """Mode → log-probabilities of each prompt's tokens but for its first, ``[tokens]``, float32.

    Args:
        model: Has the modes.
        modes: Their names.
        asked: The prompts in tokens.
    """
    import torch

    found = {}
    for mode in modes:
        with torch.no_grad(), model.mode(mode):
            found[mode] = [_rated(model, ids) for ids in asked]
    return found


def _rated(model: SwitchableModel, prompt: Sequence[int]) -> torch.Tensor:
    import torch

    ids = torch.tensor([list(prompt)], device=model.device)
    logs = model.model(input_ids=ids, use_cache=False).logits[0, :-1].float().log_softmax(-1)
    found: torch.Tensor = logs.gather(1, ids[0, 1:, None].to(logs.device))[:, 0].cpu()
    return found


def check(
    served: Mapping[str, torch.Tensor],
    wanted: Mapping[str, torch.Tensor],
    dtype: str,
    plain: Collection[str] = ("base",),
) -> None:
    """Refuse an engine whose modes are not what transformers says they are.

    Args:
        served: Mode → the engine's numbers, of both prompts together, ``[tokens]``.
        wanted: Mode → transformers' numbers, ``base`` among them.
        dtype: What the engine computes in.
        plain: Modes that keep nothing, and so are base.

    Raises:
        RunError: If a mode's numbers are not its own. The mode is named, and whose they are.
    """
    for whose, modes in (("the model", wanted), ("vLLM", served)):
        for mode, numbers in modes.items():
            if not bool(numbers.isfinite().all()):
                raise RunError(
                    f"In mode {mode} log-probabilities of {whose} are not numbers.",
                    "Check the weights, or compute in another --dtype.",
                )
    for mode, got in served.items():
        own = wanted[mode]
        if mode not in plain and _same(own, wanted["base"]):
            raise RunError(
                f"Mode {mode} says what base says, in transformers too: no check can tell whether "
                "vLLM applies its adapter.",
                "Leave the mode out, or leave --engine vllm out.",
            )
        _check_place(mode, got, wanted, dtype)
        if (off := _apart(got, own)) > ALLOWED[dtype]:
            raise RunError(
                f"In mode {mode} vLLM's log-probabilities are not transformers': they differ by "
                f"{off:.3g} nats (root mean square over two prompts), and {ALLOWED[dtype]:g} is "
                f"allowed in {dtype}.",
                f"Nothing was scored. {_MEND}",
            )


def _check_place(
    mode: str, got: torch.Tensor, wanted: Mapping[str, torch.Tensor], dtype: str
) -> None:
    """Refuse numbers that do not stand at a mode's own, as seen from every other mode's."""
    own = wanted[mode]
    others = {name: numbers for name, numbers in wanted.items() if not _same(numbers, own)}
    places = {name: _place(got, own, numbers) for name, numbers in others.items()}
    wrong = [name for name, place in places.items() if not place.is_its_own]
    if not wrong:
        return
    nearest = min(wanted, key=lambda name: _apart(got, wanted[name]))
    if nearest in places and places[nearest].is_the_others:
        raise RunError(
            f"Asked for mode {mode}, vLLM answers as {nearest}.", f"Nothing was scored. {_MEND}"
        )
    other = "base" if "base" in wrong else wrong[0]
    if places[other].blur > BLUR:
        raise RunError(
            f"Modes {mode} and {other} are too much alike on two prompts to be told apart in "
            f"{dtype}.",
            "Nothing was scored. Try --dtype float32, or leave one of them or --engine vllm out.",
        )
    raise RunError(
        f"In mode {mode} vLLM's log-probabilities are {places[other].share:.0%} of the way from "
        f"{other}'s to its own.",
        f"Nothing was scored. {_MEND}",
    )


def _place(got: torch.Tensor, own: torch.Tensor, other: torch.Tensor) -> _Place:
    """By least squares along the line from the other reference to the own.

    The standard error is White's, which lets rounding be larger at some tokens: at unlikely ones,
    where modes differ more, too.
    """
    way, off = (own - other).double(), (got - own).double()
    length = float(way.square().sum())
    share = 1 + float((off * way).sum()) / length
    return _Place(share, float((off * way).square().sum().sqrt()) / length)


def _apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).double().square().mean().sqrt())


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool((one == other).all())
