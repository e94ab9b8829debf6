"""For transformers and PEFT: an adapter stays one, or is merged into a whole checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from taia.checkpoint import reading
from taia.checkpoint.adapters.names import PEFT_TYPE
from taia.checkpoint.adapters.read import FILE
from taia.checkpoint.compose import compose
from taia.checkpoint.folders import ADAPTER_CONFIG
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.locate import Located
from taia.checkpoint.output import tokenizer_files
from taia.checkpoint.output.card import without_paths
from taia.checkpoint.output.manifest import MANIFEST, write_json
from taia.checkpoint.output.writer import writing
from taia.checkpoint.plan import copied
from taia.errors import CheckpointError
from taia.export.job import SCRATCH, Check, Written

if TYPE_CHECKING:
    from taia.export.job import Job

#: How far scores may be apart, as a share of their spread. The same numbers in the same program:
#: only the order of float32 sums may differ.
EXACT: Final = 1e-4
#: After merging, by the dtype that W_base + ΔW was rounded to.
_ROUNDED: Final = {"F64": EXACT, "F32": EXACT, "F16": 0.02, "BF16": 0.1}
#: The card, the record and the config that belong to the weights.
_BESIDE: Final = ("README.md", MANIFEST, "config.json")


def write(job: Job, folder: Path) -> Written:
    """Writes a folder that transformers or PEFT load."""
    source = job.source
    if source.adapter is None:
        with writing(copied(Checkpoint.open(source.folder)), folder):
            pass
        _copy_beside(job, folder)
        return Written()
    if job.merge:
        done = merge(job, folder)
        _tidy_card(job, folder)
        return done
    reading.copy(source.folder / FILE, folder / FILE)
    config = source.folder / ADAPTER_CONFIG
    if reading.read_json(config) == source.adapter.config:
        reading.copy(config, folder / ADAPTER_CONFIG)
    else:  # it says something that PEFT itself does not take
        write_json(folder / ADAPTER_CONFIG, source.adapter.config)
    _copy_beside(job, folder)
    if source.adapter.config["peft_type"] == PEFT_TYPE:
        return Written(("PEFT loads MoLoRA once taia.molora is imported.",))
    return Written()


def merge(job: Job, folder: Path) -> Written:
    """Writes the base with the adapter merged into it.

    Raises:
        InputError: If the two cannot be merged.
    """
    # Under the output's name, which the card shows.
    inner = folder / SCRATCH / job.output.name
    done = compose(
        job.source.base, job.source.place, inner, "tuned", merge=True, declare=job.declare
    )
    for path in inner.iterdir():
        path.rename(folder / path.name)
    shutil.rmtree(inner.parent)
    return Written(done.notes)


def verify(job: Job, folder: Path) -> tuple[Check, ...]:
    """Loads the folder as transformers and PEFT do and compares it with the source."""
    from importlib.metadata import version

    from taia.export.trace import compared, follow, load_adapted, load_whole

    try:
        trace, without = job.source.trace
    except CheckpointError as error:
        if job.whole or not job.source.base_config.get("quantization_config"):
            raise
        # The adapter is a copy; that its base needs another machine is no fault of it.
        said = f"It was not compared: the base is quantised and not loaded here. {error.problem}"
        return (Check(said, passed=True),)
    if job.whole:
        model = load_whole(Located(str(job.output), folder))
        loader = f"transformers {version('transformers')} loads it"
        precision = _precision(folder) if job.merge else EXACT
    else:
        model = load_adapted(load_whole(job.source.base), folder)
        loader, precision = f"PEFT {version('peft')} loads it", EXACT
    got = follow(model, trace)
    return (compared(loader, trace, got, precision=precision, without=without),)


def _precision(folder: Path) -> float:
    dtypes = {entry.dtype for entry in Checkpoint.open(folder).tensors.values()}
    return max(_ROUNDED.get(dtype, EXACT) for dtype in dtypes)


def _copy_beside(job: Job, folder: Path) -> None:
    source = job.source.folder
    found = tokenizer_files.beside(source, source, True)[0]
    found |= {name: source / name for name in _BESIDE if reading.is_file(source / name)}
    tokenizer_files.copy(found, folder)
    _tidy_card(job, folder)


def _tidy_card(job: Job, folder: Path) -> None:
    """Leaves of every local path in the card its last name: what is published tells no folders."""
    file = folder / "README.md"
    if not file.is_file():
        return
    text = file.read_text("utf-8", "replace")
    text = without_paths(text, job.source.local_names)
    file.write_text(text, "utf-8", "backslashreplace")
