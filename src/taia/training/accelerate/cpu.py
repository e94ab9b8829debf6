"""FSDP over CPU processes, which accelerate leaves out: for tests, and machines without a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType


@contextmanager
def fsdp_on_cpu() -> Iterator[None]:
    """Let an ``Accelerator`` made within split its model over CPU processes, if FSDP is asked for.

    accelerate 1.15 takes FSDP for every kind of device but CPUs: there it makes a copy for each
    process (DDP) without a word, although torch's FSDP2 works over gloo. Nothing changes where
    FSDP is not asked for, or there is a GPU.
    """
    original = AcceleratorState.__init__

    def init(self: AcceleratorState, *args: Any, **options: Any) -> None:  # noqa: ANN401 - as accelerate's
        original(self, *args, **options)
        plugin = options.get("fsdp_plugin")
        if plugin is None or self.distributed_type != DistributedType.MULTI_CPU:
            return
        for shared in (AcceleratorState._shared_state, PartialState._shared_state):
            shared["distributed_type"] = DistributedType.FSDP
        if self.mixed_precision != "no":
            plugin.set_mixed_precision(self.mixed_precision)
        self.fsdp_plugin = plugin

    AcceleratorState.__init__ = init
    try:
        yield
    finally:
        AcceleratorState.__init__ = original
