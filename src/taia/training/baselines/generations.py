"""What a model writes, kept in a file so that it is never written twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

import torch

from taia.checkpoint.output.staging import claimed
from taia.errors import DataError, OutputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: Values of each tensor that tell one model from another.
_SAMPLES = 256


@dataclass(frozen=True, slots=True)
class Rollout:
    """What a model wrote.

    Attributes:
        text: Its words, without special tokens and the space around.
        ended: Whether it came to an end by itself.
    """

    text: str
    ended: bool


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[tuple[int, ...]],
    ends: frozenset[int],
    most: int,
) -> Iterator[Rollout]:
    """Greedy answers to prompts, in one batch padded on the left.

    Args:
        model: Who writes; it is left as it was.
        tokenizer: Its tokenizer.
        prompts: Their tokens.
        ends: The tokens that end an answer.
        most: Tokens that an answer may have.

    Yields:
        One answer for each prompt, in order.
    """
    from transformers import GenerationConfig

    filler = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(ends, default=0)
    width = max(map(len, prompts))
    ids = torch.tensor([[filler] * (width - len(prompt)) + [*prompt] for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        max_new_tokens=most,
        eos_token_id=sorted(ends) or None,
        pad_token_id=filler,
    )
    writer: Any = model
    training, own = writer.training, writer.generation_config
    try:
        writer.eval()
        # Else what the model's own says beyond ours, such as a penalty for repetition, applies.
        writer.generation_config = type(config)()
        output = writer.generate(
            input_ids=ids.to(writer.device),
            attention_mask=mask.to(writer.device),
            generation_config=config,
        )
    finally:
        writer.generation_config = own
        writer.train(training)
    for row in output[:, width:].tolist():
        stop = next((place for place, token in enumerate(row) if token in ends), None)
        text = tokenizer.decode(row[:stop], skip_special_tokens=True)
        assert isinstance(text, str)
        yield Rollout(text.strip(), stop is not None)


class Generations:
    """A JSONL file of what was written to which prompt, by a model with its settings.

    Each line is ``{"key", "text", "ended"}``. The key is a hash of the prompt's tokens and of all
    that the answer depends on, so one file may serve several models. A last line without its end,
    as an interruption leaves it, is taken away.

    Args:
        path: The file.
        settings: What answers depend on besides the prompt; JSON.

    Raises:
        DataError: If a line that has its end is none of ours.
        OutputError: If the file cannot be read or written.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self._path = path
        self._salt = json.dumps(settings, sort_keys=True).encode()
        self._found: dict[str, Rollout] = {}
        self._file: BinaryIO | None = None
        self._claim = ExitStack()

    def __enter__(self) -> Generations:
        # Two that add to one file would cut into each other's lines.
        self._claim.enter_context(claimed(self._path, wait=True))
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a+b")
            self._file.seek(0)
            whole, newline, torn = self._file.read().rpartition(b"\n")
            if torn:
                self._file.truncate(len(whole) + len(newline))
        except OSError as error:
            self.__exit__(None, None, None)
            raise self._unusable(error) from error
        try:
            for number, line in enumerate(whole.split(b"\n") if whole else [], 1):
                self._read(number, line)
        except DataError:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._claim.close()

    def __contains__(self, tokens: tuple[int, ...]) -> bool:
        return self._key(tokens) in self._found

    def __getitem__(self, tokens: tuple[int, ...]) -> Rollout:
        return self._found[self._key(tokens)]

    def add(self, tokens: tuple[int, ...], answer: Rollout) -> None:
        """Keep an answer, in the file before in memory; one that is there stays as it is."""
        key = self._key(tokens)
        if key in self._found:
            return
        assert self._file is not None
        line = json.dumps(
            {"key": key, "text": answer.text, "ended": answer.ended}, ensure_ascii=False
        )
        try:
            self._file.write(line.encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise self._unusable(error) from error
        self._found[key] = answer

    def _key(self, tokens: tuple[int, ...]) -> str:
        prompt = ",".join(map(str, tokens)).encode()
        return hashlib.sha256(self._salt + b"\n" + prompt).hexdigest()

    def _read(self, number: int, line: bytes) -> None:
        try:
            row = json.loads(line)
            key, text, ended = row["key"], row["text"], row["ended"]
            if not (isinstance(key, str) and isinstance(text, str) and isinstance(ended, bool)):
                raise TypeError
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"{self._path}, line {number} is not an answer that was kept.",
                "Remove the line, or name another file.",
            ) from error
        self._found[key] = Rollout(text, ended)

    def _unusable(self, error: OSError) -> OutputError:
        return OutputError(
            f"{self._path} cannot be written: {error.strerror or error}.", "Name another file."
        )


def fingerprint(thing: torch.nn.Module | PreTrainedTokenizerBase) -> str:
    """A hash that tells models, or tokenizers, apart.

    Of a model it covers each tensor's name, dtype, shape and some hundred values spread over it: a
    fine-tuned model has another one, and no large model is read as a whole. Of a tokenizer it
    covers the vocabulary, special tokens and chat template.
    """
    digest = hashlib.sha256()
    if isinstance(thing, torch.nn.Module):
        for name, tensor in [*thing.named_parameters(), *thing.named_buffers()]:
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            flat = tensor.detach().reshape(-1)
            some = flat[:: max(1, flat.numel() // _SAMPLES)].cpu().contiguous()
            digest.update(some.view(torch.uint8).numpy().tobytes())
    else:
        digest.update(json.dumps(sorted(thing.get_vocab().items())).encode())
        digest.update(json.dumps(sorted(thing.all_special_tokens)).encode())
        digest.update(str(thing.chat_template).encode())
    return digest.hexdigest()
