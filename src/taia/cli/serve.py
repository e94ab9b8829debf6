"""``taia serve``: a model and its modes behind OpenAI's HTTP interface."""

from __future__ import annotations

import shlex
import warnings
from pathlib import Path
from typing import Annotated, Literal

import typer

from taia.cli.environment import prepare
from taia.cli.guard import say
from taia.cli.options import Declare, complete, declared
from taia.errors import InputError
from taia.packages import require_packages
from taia.selection.listing import read_modes
from taia.text import printable


def serve(
    base: Annotated[
        str, typer.Argument(help="The model before fine-tuning: a folder or a hub name.")
    ],
    tuned: Annotated[
        str, typer.Argument(help="The model after it: a folder, a hub name, or a PEFT adapter.")
    ],
    rest: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FLAGS",
            help="With --engine vllm: flags for vLLM, after --.",
            show_default=False,
        ),
    ] = None,
    modes: Annotated[
        str,
        typer.Option(
            "--modes",
            "-m",
            help="Modes and selections; each is a model's id.",
            autocompletion=complete,
        ),
    ] = "base,tuned,taia",
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port; 0 takes any that is free.")
    ] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="TAIA_API_KEY", help="Ask clients for this key.", show_default=False),
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="The longest answer, in tokens.")] = 2048,
    max_rows: Annotated[int, typer.Option(min=1, help="Answers written at once.")] = 32,
    max_waiting: Annotated[
        int, typer.Option(min=0, help="Answers that may wait; others are turned away.")
    ] = 128,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds a request may take.")] = 600,
    grace: Annotated[
        float, typer.Option(min=0, help="Seconds for running answers once told to stop.")
    ] = 30,
    device: Annotated[
        str | None, typer.Option(help="Such as cuda:1 or cpu.", show_default=False)
    ] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(
            help="Of the weights; by default float32 on a CPU, the checkpoint's on a GPU.",
            show_default=False,
        ),
    ] = None,
    engine: Annotated[
        Literal["taia", "vllm"], typer.Option(help="Who answers; vllm serves adapters only.")
    ] = "taia",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="With --engine vllm: where to write its adapters; by default for the while.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace adapters that are at --output already.")
    ] = False,
    declare: Declare = None,
    print_only: Annotated[
        bool, typer.Option("--print", help="With --engine vllm: print its command, start nothing.")
    ] = False,
) -> None:
    """Serve base, tuned and TAIA at once, one model id each, and a page that compares them.

    OpenAI's clients speak to http://HOST:PORT/v1; docs/serving.md lists what is understood.
    """
    prepare()
    modules = ["torch", "transformers", "peft"]
    if engine == "taia":
        modules += ["jinja2", "fastapi", "uvicorn", "prometheus_client"]
    require_packages("serve", *modules)
    selections, named = read_modes(modes), declared(declare)
    if engine == "vllm":
        flags = ["--host", host, "--port", str(port), *(["--dtype", dtype] if dtype else [])]
        flags += rest or []
        _vllm(base, tuned, selections, output, overwrite, print_only, flags, api_key, named)
        return
    from taia.checkpoint.inspection import look_ahead
    from taia.checkpoint.kinship import doubts
    from taia.loading.models import check_live

    places = look_ahead(base, tuned, selections.values(), named)
    if device is not None:
        from taia.loading.devices import device_called

        device_called(device)
    check_live(*places)
    for doubt in doubts(base, tuned):
        say(doubt)
    from taia.serving.load import load
    from taia.serving.server import serve as run
    from taia.serving.settings import ServingSettings

    settings = ServingSettings(
        host, port, api_key, max_tokens, max_rows, max_waiting, timeout, grace
    )
    warnings.simplefilter("ignore", FutureWarning)  # transformers' notes to its own developers
    if not settings.is_loopback and api_key is None:
        say(f"Anybody who reaches {host} can use this server: give it an --api-key.")
    run(
        lambda: load(base, tuned, selections, settings, dtype=dtype, device=device, declare=named),
        settings,
        say,
    )


def _vllm(
    base: str,
    tuned: str,
    modes: dict[str, str],
    output: Path | None,
    overwrite: bool,
    print_only: bool,
    flags: list[str],
    api_key: str | None,
    declare: dict[str, str],
) -> None:
    from tempfile import TemporaryDirectory

    from taia.serving import vllm

    if print_only and output is None:
        raise InputError(
            "--print leaves its adapters somewhere, and --output does not say where.",
            "Give a folder with --output.",
        )
    if not print_only:
        vllm.find()  # before anything is written
    with TemporaryDirectory(prefix="taia-vllm-") as folder:
        served = vllm.write(
            base,
            tuned,
            modes,
            output or Path(folder),
            overwrite=overwrite,
            flags=flags,
            declare=declare,
        )
        command = served.command(flags)
        if print_only:
            print(printable(shlex.join(command)))
            return
        say(shlex.join(command))
        vllm.run(command, api_key)
