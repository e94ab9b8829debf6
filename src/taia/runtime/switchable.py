"""A model that is base, tuned, TAIA or any selection, switched in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import ref

from taia.checkpoint.kinship import warn_of_doubts
from taia.errors import RunError
from taia.packages import needing
from taia.runtime.layers import token_embedding
from taia.runtime.switch import Switch
from taia.runtime.update import State, Update
from taia.runtime.watch import check_caches, check_rows, guard_peft, watch_forward

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedConfig, PreTrainedModel


class SwitchableModel(Switch):
    """A model that is base, tuned, TAIA or any selection, switched in place.

    ::

        model = SwitchableModel.load("base/", "tuned/")
        with model.mode("taia"):
            model.generate(**inputs)
        model(input_ids, modes=["base", "taia"])  # an adapter's, row by row

    The base's weights are held once. An adapter's layers are switched off and on; of a tuned
    checkpoint only the tensors that differ are held beside the base's, and exchanged by reference.

    Threads: the mode is the model's, not a thread's. One thread at a time runs the model or
    switches it through this object, and the others wait. While a thread is in a ``with`` block of
    :meth:`mode` or :meth:`rows`, others may run the model in that mode, and are refused a switch.
    Whoever calls :attr:`model` directly has to see to that alone.

    Attributes:
        model: The live model: a ``PeftModel``, or transformers' own.
    """

    def __init__(
        self,
        model: PeftModel | PreTrainedModel,
        update: Update,
        modes: Mapping[str, str] | None = None,
    ) -> None:
        """Take a model and its update; :meth:`load` and :meth:`wrap` make both."""
        super().__init__(update, modes)
        self.model: Any = model
        self._ends = self._watch()
        self._plain._taia_wrapper = ref(self)
        self.set_mode("tuned" if update.has_update else "base")

    @classmethod
    @needing("torch", "torch", "transformers")
    def load(
        cls,
        base: str | Path,
        tuned: str | Path | None,
        modes: Mapping[str, str] | None = None,
        *,
        dtype: torch.dtype | None = None,
        device: str | None = None,
        declare: Mapping[str, str] | None = None,
        check_pair: bool = True,
        **options: Any,  # noqa: ANN401 - transformers' own
    ) -> SwitchableModel:
        """Load a model and its update from folders or the hub.

        Warns (:class:`~taia.checkpoint.kinship.DoubtfulPairWarning`) where records say that the
        tuned model was made from another base.

        Args:
            base: The base model: a folder or a hub name.
            tuned: A PEFT adapter (LoRA, MoLoRA), a whole tuned checkpoint, or None for the base
                alone.
            modes: Name → selection; None for base, tuned, taia and taif. There are always base
                and tuned.
            dtype: Of the weights; None for float32 on the CPU and the checkpoint's own elsewhere.
            device: Where to; None for the accelerator if there is one.
            declare: Pattern of a tensor's name → component, for names that anatomy does not know.
            check_pair: Whether to look for such records.
            **options: Further ones of ``from_pretrained`` (``device_map``,
                ``quantization_config``, …).

        Raises:
            CheckpointError: If a model cannot be loaded.
            AdapterError: If the adapter cannot be used, or not switched.
            AnatomyError: If a tensor has no label.
            MismatchError: If base and tuned do not belong together.
            SelectionError: If a selection cannot be read or matches nothing.
            InputError: If there is no such device.
        """
        from taia.runtime.kinds import update_of
        from taia.runtime.load import load_parts

        if check_pair:
            warn_of_doubts(base, tuned)
        parts = load_parts(base, tuned, dtype=dtype, device=device, **options)
        update = update_of(parts.model, parts.tuned, declare, parts.replaced)
        return cls(parts.model, update, modes)

    @classmethod
    @needing("torch", "torch", "transformers")
    def wrap(
        cls,
        model: PeftModel | PreTrainedModel,
        tuned: Mapping[str, torch.Tensor] | PreTrainedModel | None = None,
        modes: Mapping[str, str] | None = None,
        declare: Mapping[str, str] | None = None,
    ) -> SwitchableModel:
        """Make a model switchable that is in memory already.

        Args:
            model: A PEFT model with active LoRA or MoLoRA adapters; or a base model.
            tuned: The tuned checkpoint of a base model: another model, or its state by name.
                Its tensors are kept where they differ, and not copied.
            modes: As in :meth:`load`.
            declare: As in :meth:`load`.

        Raises:
            AdapterError: If the adapter cannot be switched.
            AnatomyError: If a tensor has no label.
            MismatchError: If base and tuned do not belong together.
            SelectionError: If a selection cannot be read or matches nothing.
        """
        from taia.runtime.kinds import update_of

        replaced = None
        if (before := _wrapper(model)) is not None:
            before._release()
            replaced = before._update.replaced
        return cls(model, update_of(model, tuned, declare, replaced), modes)

    @property
    def device(self) -> torch.device:
        """Where the model's inputs go."""
        device: torch.device = token_embedding(self._plain).weight.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the base's weights that are not quantised."""
        dtype: torch.dtype = self._plain.dtype
        return dtype

    @property
    def config(self) -> PreTrainedConfig:
        """The base model's config."""
        config: PreTrainedConfig = self._plain.config
        return config

    def __call__(self, *args: Any, modes: Sequence[str] | None = None, **options: Any) -> Any:  # noqa: ANN401 - the model's own
        """A forward pass, in the current mode or with a mode for each row.

        Raises:
            InputError: If there are more or fewer modes than rows.
            RunError: If the KV cache was filled in another mode.
            AdapterError: As :meth:`rows` does.
        """
        with self._turns.alone(), self._rows_or_not(modes), self._turns.running():
            check_rows(args, options, self._state)
            check_caches((args, options), self._state)
            return self.model(*args, **options)

    def generate(self, *args: Any, modes: Sequence[str] | None = None, **options: Any) -> Any:  # noqa: ANN401 - the model's own
        """Transformers' ``generate``, in the current mode or with a mode for each row.

        Beams and further answers of a row are in the row's mode.

        Raises:
            InputError: If there are more or fewer modes than rows.
            RunError: If the KV cache was filled in another mode.
            AdapterError: As :meth:`rows` does.
        """
        if modes is not None:
            settings = options.get("generation_config") or self.model.generation_config
            each = max(
                options.get(name) or getattr(settings, name) or 1
                for name in ("num_beams", "num_return_sequences")
            )
            modes = [mode for mode in modes for _ in range(each)]
        with self._turns.alone(), self._rows_or_not(modes), self._turns.running():
            check_caches((args, options), self._state)
            return self.model.generate(*args, **options)

    @contextmanager
    def at(self, values: torch.Tensor, at: Mapping[str, int]) -> Iterator[None]:
        """Put the model, for a block, at α that a gradient reaches.

        Forward passes in the block are W_base + α·Δ, and ``backward`` leaves the gradient in
        ``values.grad``. No parameter of the model gets one, nor is one made for what is linear in
        its weight, except for all experts at once. The values may be changed in place meanwhile.

        Args:
            values: ``[numbers]``, of a floating dtype.
            at: Name of a part of :attr:`changed` → the place of its α in ``values``. What is not
                named is tuned.

        Raises:
            InputError: If a name is no part that can be scaled, or a place is not in ``values``.
            RunError: As :meth:`set_mode` does.
        """
        from taia.runtime.alphas import Alphas

        plan = self._update.plan_at(Alphas(values, at))
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        with self._block(State("α with a gradient", (plan,))):
            for parameter in trained:
                parameter.requires_grad_(False)
            try:
                yield
            finally:
                for parameter in trained:
                    parameter.requires_grad_(True)

    @property
    def _plain(self) -> Any:  # noqa: ANN401 - any of transformers' models
        """The model without PEFT's wrapper."""
        return _without_peft(self.model)

    def _watch(self) -> list[Callable[[], None]]:
        ends = [watch_forward(self._plain, lambda: self._state)]
        if self._plain is not self.model:
            tuned = (self._plans["tuned"],)
            in_base = partial(self.mode, "base")
            ends.append(guard_peft(self.model, lambda: self._state.plans == tuned, in_base))
        return ends

    def _release(self) -> None:
        """Leave the model as it was found, to another."""
        with self._turns.switching():
            if self._turns.in_block:
                raise RunError(
                    f"The model was to be wrapped anew inside a block of the mode {self.current}.",
                    "Leave the block first.",
                )
            if self._state.plans != self._found.plans:
                self._switch(self._found)
            for end in self._ends:
                end()
            self._ends = []


def _wrapper(model: Any) -> SwitchableModel | None:  # noqa: ANN401 - a model
    """Whose a model is already; a copy has the reference too, and is nobody's."""
    plain = _without_peft(model)
    wrapper: SwitchableModel | None = getattr(plain, "_taia_wrapper", lambda: None)()
    return wrapper if wrapper is not None and wrapper._plain is plain else None


def _without_peft(model: Any) -> Any:  # noqa: ANN401 - a model
    return model.get_base_model() if hasattr(model, "get_base_model") else model
