"""What happens to a live model beside its switches: forward passes, and PEFT's own methods."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from taia.errors import AdapterError, InputError
from taia.runtime.caches import CACHES, STATES, caches_in, caches_named, check, mark
from taia.runtime.update import State

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import nn
    from transformers import PreTrainedModel

#: Methods of PEFT's that take the adapter for whole, whatever part of it a mode keeps.
_OF_MODEL: Final = (
    "save_pretrained",
    "set_adapter",
    "add_adapter",
    "load_adapter",
    "delete_adapter",
)
_OF_TUNER: Final = (
    "merge_and_unload",
    "merge_adapter",
    "enable_adapter_layers",
    "disable_adapter_layers",
    "set_adapter",
    "add_weighted_adapter",
    "delete_adapter",
)


def watch_forward(model: PreTrainedModel, state: Callable[[], State]) -> Callable[[], None]:
    """Check each forward pass against the mode, and mark the caches it fills.

    The model's main body is watched, so that its pass without the head is, too; and each module
    within it that takes a cache (a decoder, a layer, its attention), for those that it is given
    itself. Of a compiled model nothing is seen here; the call that leads to it checks.

    Args:
        model: The model, without PEFT's wrapper.
        state: Tells what it is in.

    Returns:
        What ends it.
    """
    from torch.compiler import is_compiling
    from transformers import PreTrainedModel

    body = model.base_model
    watched = _takers_of_caches(body)

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if is_compiling() or module not in watched:  # not a copy, which has the hooks too
            return
        if module is body:
            check_rows(args, kwargs, state())
        taker = watched[module]
        arguments = {**dict(zip(taker.parameters, args, strict=False)), **kwargs}
        if not isinstance(module, PreTrainedModel):  # layers are many
            arguments = {name: arguments[name] for name in taker.caches if name in arguments}
        filling = state().filling
        for cache in caches_in(arguments):
            check(cache, filling)
            mark(cache, filling)

    def after(module: nn.Module, _args: object, output: object) -> None:
        if is_compiling() or module not in watched:
            return
        # A state among other tensors has no name in a tuple.
        unnamed = isinstance(output, tuple) and not STATES.isdisjoint(watched[module].caches)
        if not unnamed and not isinstance(module, PreTrainedModel):
            return
        filling = state().filling
        for cache in caches_in(dict.fromkeys(STATES, output) if unnamed else output):
            mark(cache, filling)

    handles = [
        handle
        for part in watched
        for handle in (
            part.register_forward_pre_hook(before, with_kwargs=True),
            part.register_forward_hook(after),
        )
    ]

    def end() -> None:
        for handle in handles:
            handle.remove()

    return end


class _Taker(NamedTuple):
    """The names of a pass's parameters, and of those that a cache may be given as."""

    parameters: tuple[str, ...]
    caches: tuple[str, ...]


def _takers_of_caches(body: nn.Module) -> dict[nn.Module, _Taker]:
    """A model's main body and the modules in it that may be given a cache.

    One that hands on whatever keywords it is given counts where a module in it takes a cache.
    """
    found: dict[nn.Module, _Taker] = {}
    # From the inside out, as what a module hands on is known by the modules in it.
    for part in reversed(list(body.modules())):
        parameters = signature(part.forward).parameters
        hands_on = any(p.kind is Parameter.VAR_KEYWORD for p in parameters.values())
        named = caches_named(parameters)
        if hands_on and any(inner in found for inner in part.modules()):
            named = tuple(dict.fromkeys((*named, *CACHES, *STATES)))
        if named or part is body:
            found[part] = _Taker(tuple(parameters), named)
    return found


def check_caches(arguments: object, state: State) -> None:
    """Check the caches that a forward pass is given, in whatever argument.

    Raises:
        RunError: If one was filled in another mode.
    """
    for cache in caches_in(arguments):
        check(cache, state.filling)


def check_rows(args: tuple[Any, ...], kwargs: dict[str, Any], state: State) -> None:
    """Check the batch that a forward pass is given.

    Raises:
        InputError: If it has more or fewer rows than there are modes.
    """
    inputs = (*args[:1], kwargs.get("input_ids"), kwargs.get("inputs_embeds"))
    rows = next((len(x) for x in inputs if x is not None), state.rows)
    if state.rows is not None and rows != state.rows:
        raise InputError(
            f"There are {state.rows} modes for a batch of {rows} rows.",
            "Give one mode for each row.",
        )


def guard_peft(
    model: PeftModel,
    is_tuned: Callable[[], bool],
    in_base: Callable[[], AbstractContextManager[None]],
) -> Callable[[], None]:
    """Keep PEFT's own methods from mistaking a part of an adapter for the whole.

    ``disable_adapter()`` leads to the base from any mode, and back to the same mode; PEFT's own
    would switch everything on. The others are refused in any mode but ``tuned``:
    ``merge_and_unload()`` would merge what is switched off, too.

    Args:
        model: The model; its methods are replaced on the instance.
        is_tuned: Whether it is in the mode ``tuned``.
        in_base: Puts it in the mode ``base`` for a while.

    Returns:
        What ends it.
    """

    def guarded(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - PEFT's own
            if not is_tuned():
                raise AdapterError(
                    f"{name}() takes the adapter for whole, and the mode keeps a part of it.",
                    "Call it in the mode tuned; for a part of the adapter use `taia compose`.",
                )
            return method(*args, **kwargs)

        return call

    replaced: list[tuple[Any, str]] = []

    def replace(owner: Any, name: str, call: Callable[..., Any]) -> None:  # noqa: ANN401 - any module
        setattr(owner, name, _StandIn(owner, name, call))
        replaced.append((owner, name))

    for owner, names in ((model, _OF_MODEL), (model.base_model, _OF_TUNER)):
        for name in names:
            if method := getattr(owner, name, None):
                replace(owner, name, guarded(name, method))
    replace(model, "disable_adapter", in_base)

    def end() -> None:
        for owner, name in replaced:
            delattr(owner, name)

    return end


class _StandIn:
    """What stands in for a method on one instance; a copy of that has its class's method again."""

    def __init__(self, owner: object, name: str, call: Callable[..., Any]) -> None:
        self._owner = owner
        self._name = name
        self._call = call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the method's own
        return self._call(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:  # noqa: ANN401 - a bound method
        return getattr(type(self._owner), self._name).__get__(memo[id(self._owner)])
