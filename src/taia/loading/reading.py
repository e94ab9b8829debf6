"""What transformers raises while it reads a user's folder, as an error that names the folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from taia.errors import CheckpointError, first_line, reading_of


@contextmanager
def read_by_transformers(what: str) -> Iterator[None]:
    """Whatever is raised is bad input, but for memory that has run out.

    Args:
        what: What is read, and whose, such as ``"The tokenizer of base/"``.

    Raises:
        CheckpointError: If anything is raised.
        MemoryError: If memory ran out, of the machine or of the accelerator.
    """
    mend = "Give a folder or hub name with config.json, tokenizer and safetensors weights."
    with reading_of(what, mend, CheckpointError):
        try:
            yield
        except ImportError as error:  # a quantised model's own package
            raise CheckpointError(
                f"{what} cannot be read: {first_line(error)}.", "Install what it names."
            ) from error
