"""Models that a vLLM of our own has: the base once, and a LoRA for each mode."""

from __future__ import annotations

import gc
import hashlib
import shlex
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from taia.checkpoint.adapters.read import FILE
from taia.checkpoint.folders import ADAPTER_CONFIG, holds_adapter
from taia.checkpoint.locate import Located
from taia.errors import AdapterError
from taia.evaluation.harness.encoder import Encoder
from taia.evaluation.harness.model import SOURCES, Backend
from taia.evaluation.harness.server import SPARE
from taia.evaluation.harness.subject import InMemory
from taia.evaluation.loracl import LORACL
from taia.evaluation.settings import Server, Vllm, Watch
from taia.evaluation.vllm import check
from taia.evaluation.vllm.backend import Started, VllmBackend
from taia.evaluation.vllm.child import Child, running
from taia.evaluation.vllm.prompts import prompts
from taia.loading.models import dtype_called, end_tokens, load_config
from taia.selection import Selection
from taia.serving import vllm

if TYPE_CHECKING:
    import torch

#: What vLLM calls the base.
_BASE: Final = "base"
_INSTEAD: Final = "leave --engine vllm out: taia evaluates it itself"


class OnVllm(InMemory):
    """Models that a vLLM has, which is started when first asked, and ends with the block.

    Before it is started, transformers rates two prompts in every mode, in float32 on the CPU, and
    its memory is given back; what vLLM says of them must be the same.

    Args:
        engine: How it is started.
        base: A folder or hub name.
        tuned: A folder or hub name of an adapter; none for the base alone.
        modes: Name → selection of every mode that will be asked.
        dtype: ``float32``, ``bfloat16`` or ``float16``; by default what the base is stored in.
        rows: How many requests are under way at once.
        declare: Pattern of a tensor's name → component, for names that anatomy does not know.

    Raises:
        AdapterError: If the tuned model, or what a mode keeps of it, is no LoRA that vLLM takes.
        CheckpointError: If a place holds no model, or there is no tokenizer.
        DownloadError: If one cannot be fetched.
        InputError: If vLLM is not installed.
    """

    def __init__(
        self,
        engine: Vllm,
        base: str | Path,
        tuned: str | Path | None,
        modes: Mapping[str, str],
        *,
        dtype: str | None,
        rows: int,
        declare: Mapping[str, str] | None,
    ) -> None:
        self._program = vllm.find(_INSTEAD)
        super().__init__(base, tuned, device="cpu", rows=rows, declare=declare)
        config = load_config(self._base).get_text_config()
        stored = str(config.dtype).rpartition(".")[2]
        self.dtype = dtype or (stored if stored in check.ALLOWED else "float32")
        self.engine = shlex.join(["vllm", *engine.flags])
        self._settings = engine
        self._encoder = Encoder(config, self._tokenizer, SPARE)
        self._modes = {name: text for name, text in modes.items() if name != LORACL}
        if LORACL in modes:
            self._modes = {name: name for name in SOURCES} | self._modes
        self._stack = ExitStack()
        with ExitStack() as stack:
            self._folder = Path(stack.enter_context(TemporaryDirectory(prefix="taia-vllm-")))
            self._served, self._ids = self._write()
            self._stack = stack.pop_all()

    def __enter__(self) -> OnVllm:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def backend(self, modes: Mapping[str, str], watch: Watch) -> Backend:  # noqa: D102
        return VllmBackend(self._encoder, lambda: self._start(watch), self._rows)

    def _write(self) -> tuple[vllm.Served, dict[str, str]]:
        """What vLLM is to serve, and each mode's model there.

        An adapter's name holds the hash of its bytes: vLLM keeps what it has computed of a prompt
        under the name, and must not take one adapter's for another's.
        """
        ids: dict[str, str] = {}
        adapters: dict[str, Path] = {}
        ranks = [1]
        for number, (mode, keep) in enumerate(self._modes.items()):
            if Selection.parse(keep) == Selection.parse("none"):
                ids[mode] = _BASE
                continue
            folder = self._folder / f"{number}"
            ranks.append(self._write_adapter(mode, keep, folder))
            digest = hashlib.sha256()
            for name in (ADAPTER_CONFIG, FILE):
                digest.update((folder / name).read_bytes())
            ids[mode] = f"taia-{digest.hexdigest()[:16]}"
            adapters.setdefault(ids[mode], folder)
        # By its folder: the bytes that were hashed, whatever a name on the hub means by now.
        base = Located(self._base.given, self._base.path)
        return vllm.Served(base, (_BASE,), adapters, max(ranks)), ids

    def _write_adapter(self, mode: str, keep: str, folder: Path) -> int:
        tuned = self._tuned
        if tuned is None or not holds_adapter(tuned.path):
            raise AdapterError(
                f"vLLM cannot answer in mode {mode}: {self.tuned} is a whole checkpoint, and its "
                "modes are LoRAs.",
                f"Do so mode by mode: taia compose BASE TUNED --keep {keep!r} --output DIR, then "
                f"taia eval DIR --engine vllm; or {_INSTEAD}.",
            )
        try:
            return vllm.write_adapter((self._base, tuned), folder, keep, self._declare)
        except AdapterError as error:
            raise AdapterError(
                f"vLLM cannot answer in mode {mode}: {error.problem}",
                f"Leave the mode out, or {_INSTEAD}; or compose it as a whole model: taia compose "
                f"BASE TUNED --keep {keep!r} --merge --output DIR, then taia eval DIR --engine "
                "vllm.",
            ) from error

    def _start(self, watch: Watch) -> Started:
        import torch

        asked = prompts(self._encoder)
        references, end = self._references(asked, watch)
        watch("Starting vLLM", 0, None)
        flags = ["--dtype", self.dtype, "--generation-config", "vllm", *self._settings.flags]
        command = [self._program, *self._served.command(flags)[1:]]
        child = self._stack.enter_context(
            running(command, self._folder / "vllm.log", self._settings.patience)
        )
        watch("Checking vLLM", 0, None)
        room = self._room(child)
        # Nothing that follows has a say in a token: of a prompt too long, its beginning will do.
        wanted = {
            mode: torch.cat([row[: room - 2] for row in rows]) for mode, rows in references.items()
        }
        check.check(
            self._rated(child, [ids[: room - 1] for ids in asked]),
            wanted,
            self.dtype,
            [mode for mode, model in self._ids.items() if model == _BASE],
        )
        server = Server(f"{child.url}/v1", self._ids, key=child.key)
        lost = max(0, self._encoder.max_length + SPARE - room)
        config = load_config(self._base)
        return Started(child, server, Encoder(config, self._tokenizer, SPARE + lost), end)

    def _references(
        self, asked: Sequence[Sequence[int]], watch: Watch
    ) -> tuple[dict[str, list[torch.Tensor]], frozenset[int]]:
        """What transformers says of the prompts in every mode, and which tokens end an answer."""
        from taia.runtime.switchable import SwitchableModel

        watch("Rating two prompts with transformers", 0, None)
        model = SwitchableModel.load(
            self._base.path,
            None if self._tuned is None else self._tuned.path,
            self._modes,
            # Exact beside any other, and the accelerator stays vLLM's alone.
            dtype=dtype_called("float32"),
            device=self._device,
            declare=self._declare or None,
            check_pair=False,  # who gave their names has
        )
        end = end_tokens(model.model, self._tokenizer)
        wanted = check.references(model, [*dict.fromkeys([_BASE, *self._modes])], asked)
        del model  # vLLM needs the memory
        gc.collect()
        return wanted, end

    def _rated(self, child: Child, asked: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        """What vLLM says of the prompts, all modes in one batch, as it mixes them."""
        import torch

        requests = [(mode, list(prompt)) for mode in self._ids for prompt in asked]
        with ThreadPoolExecutor(len(requests)) as pool:
            rows = list(pool.map(lambda one: self._rate(child, *one), requests))
        size = len(asked)
        return {
            mode: torch.tensor([value for row in rows[i * size : (i + 1) * size] for value in row])
            for i, mode in enumerate(self._ids)
        }

    def _rate(self, child: Child, mode: str, prompt: list[int]) -> list[float]:
        """Log-probabilities of a prompt's tokens but for its first."""
        asked = {"model": self._ids[mode], "prompt": prompt, "echo": True, "logprobs": 1}
        asked |= {"max_tokens": 1, "temperature": 0, "return_token_ids": True}
        said: Any = child.ask("/v1/completions", asked)
        try:
            (choice,) = said["choices"]
            read, rated = choice["prompt_token_ids"], choice["logprobs"]["token_logprobs"]
            values = [float(value) for value in rated[1 : len(prompt)]]
        except (KeyError, TypeError, ValueError) as error:
            raise child.failed(f"vLLM answers otherwise than 0.11 does: {error!r}") from error
        if read != prompt or len(values) != len(prompt) - 1:
            raise child.failed("vLLM read other tokens than it was given")
        return values

    def _room(self, child: Child) -> int:
        """How many tokens vLLM reads and writes together, at most."""
        models = child.ask("/v1/models")["data"]
        return min(one.get("max_model_len") or sys.maxsize for one in models)
