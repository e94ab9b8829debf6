"""``taia eval``: modes side by side on any task of lm-evaluation-harness."""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from taia.cli.environment import prepare
from taia.cli.guard import say
from taia.cli.options import (
    AsJson,
    ComputeDtype,
    Declare,
    Device,
    TaskFolders,
    complete,
    complete_tasks,
    declared,
    pairs,
)
from taia.cli.shown import show_run
from taia.errors import InputError, first_line
from taia.evaluation.tasks import DEFAULT
from taia.packages import require_packages


def evaluate(
    base: Annotated[
        str | None,
        typer.Argument(help="The model before fine-tuning: a folder or a hub name."),
    ] = None,
    tuned: Annotated[
        str | None,
        typer.Argument(help="The model after it: a folder, a hub name, or a PEFT adapter."),
    ] = None,
    tasks: Annotated[
        str,
        typer.Option(
            "--tasks",
            "-t",
            help="Tasks, groups or tags with commas between: quick (minutes on a CPU), general "
            "(all of it), taia (the paper's seven), others of docs/tasks.md, or any of "
            "lm-evaluation-harness's.",
            autocompletion=complete_tasks,
        ),
    ] = DEFAULT,
    modes: Annotated[
        str,
        typer.Option(
            "--modes",
            "-m",
            help="Modes or selections with commas between, NAME=SELECTION to name one; also "
            "loracl. Without TUNED: base.",
            show_default="base,tuned,taia,taif",
            autocompletion=complete,
        ),
    ] = "",
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The run's folder; a run that is there goes on."),
    ] = Path("taia-eval"),
    limit: Annotated[
        int | None, typer.Option(help="Only so many items of each task.", show_default=False)
    ] = None,
    num_fewshot: Annotated[
        int | None,
        typer.Option(help="Examples before each question, where allowed.", show_default=False),
    ] = None,
    apply_chat_template: Annotated[
        bool | None,
        typer.Option(
            "--apply-chat-template/--no-apply-chat-template",
            help="Ask in the chat format.  [default: if the tokenizer has one]",
            show_default=False,
        ),
    ] = None,
    fewshot_as_multiturn: Annotated[
        bool,
        typer.Option(
            "--fewshot-as-multiturn/--no-fewshot-as-multiturn",
            help="In the chat format, show examples as turns, or all in the one question.",
        ),
    ] = True,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK=METRIC",
            help="The metric that counts of a task or group, METRIC or METRIC,FILTER; by default "
            "the first in the task's file. May be given several times.",
            show_default=False,
        ),
    ] = None,
    max_gen_toks: Annotated[
        int | None,
        typer.Option(help="Longest answer in tokens, in place of the tasks'.", show_default=False),
    ] = None,
    protocol: Annotated[
        Literal["taia", "authors"],
        typer.Option(help="How answers of the paper's tasks are matched, see docs/tasks.md."),
    ] = "taia",
    seed: Annotated[int, typer.Option(help="Of the examples shown and of draws.")] = 1234,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Where the paper's tasks read their files, see docs/tasks.md; by default from "
            "the hub.",
            show_default=False,
        ),
    ] = None,
    include_path: TaskFolders = None,
    batch_size: Annotated[
        int, typer.Option(help="How many answers are generated at once, of all modes together.")
    ] = 32,
    dtype: ComputeDtype = None,
    device: Device = None,
    load_in_4bit: Annotated[
        bool, typer.Option("--load-in-4bit", help="Quantise the base's weights (an adapter's).")
    ] = False,
    engine: Annotated[
        Literal["transformers", "vllm"],
        typer.Option(
            help="Who computes: transformers here, or a vLLM that is started with a LoRA for each "
            "mode and checked against transformers first; TUNED is an adapter then.",
        ),
    ] = "transformers",
    vllm_args: Annotated[
        str | None,
        typer.Option(
            metavar="FLAGS",
            help='With --engine vllm: flags for it, as in "--tensor-parallel-size 4".',
            show_default=False,
        ),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            help="Ask a server of OpenAI's protocol instead: its address, with /v1. BASE then only "
            "lends its tokenizer, which tasks of options need.",
            show_default=False,
        ),
    ] = None,
    model_of: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODE=ID",
            help="A mode's model on the server; by default the mode's name.",
            show_default=False,
        ),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            help="Have a model judge the answers to harmful prompts, too: the address of a server "
            "of OpenAI's protocol, with /v1.",
            show_default=False,
        ),
    ] = None,
    judge_model: Annotated[
        str | None, typer.Option(help="The judge's name there.", show_default=False)
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="Exit with 3 unless it is met: 'taia >= base', 'taia.TASK >= tuned.TASK - 0.02', "
            "'lost(taia.TASK, base) <= 0.05'. May be given several times.",
            show_default=False,
        ),
    ] = None,
    log_samples: Annotated[
        bool, typer.Option("--log-samples", help="Keep prompts and responses.")
    ] = False,
    declare: Declare = None,
    as_json: AsJson = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace another run's results.")
    ] = False,
) -> None:
    """Compare modes of one update, task by task.

    The weights are loaded once and all modes are asked together. Every result is kept as soon as
    it is known: after Ctrl-C, the same command goes on.
    """
    prepare()
    modules = ["lm_eval", "torch", "transformers", "datasets", "jinja2", "accelerate"]
    modules += ["peft"] if server is None else []
    modules += ["aiohttp", "requests", "tenacity"] if server or engine == "vllm" else []
    modules += ["bitsandbytes"] if load_in_4bit else []
    require_packages("eval", *modules)
    from taia.evaluation.judge import Judge
    from taia.evaluation.run import evaluate as run
    from taia.evaluation.settings import MODES, Server, Settings, Vllm
    from taia.reporting.progress import watched
    from taia.reporting.screen import Screen

    # Its client leaves requests behind where one has failed, which has been told by then.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    settings = Settings(
        limit,
        num_fewshot,
        apply_chat_template,
        max_gen_toks,
        protocol,
        seed,
        fewshot_as_multiturn,
        pairs("--metric", metric or [], "which metric of what", "TASK=METRIC", str.partition),
    )
    named = declared(declare)
    has_update = tuned is not None or server is not None
    with watched(Screen(stderr=True)) as watch:
        done = run(
            base,
            tuned,
            tasks=_parts(tasks),
            modes=modes or (MODES if has_update else "base"),
            output=output,
            settings=settings,
            data_dir=data_dir,
            include_path=include_path or [],
            dtype=dtype,
            device=device,
            batch_size=batch_size,
            load_in_4bit=load_in_4bit,
            server=None if server is None else Server(server, _ids(model_of or [])),
            vllm=Vllm(_flags(vllm_args or "")) if engine == "vllm" else None,
            judge=None if judge is None else Judge.at(judge, judge_model or ""),
            log_samples=log_samples,
            overwrite=overwrite,
            declare=named,
            require=require or [],
            command=shlex.join(["taia", *sys.argv[1:]]),
            watch=watch,
            on_doubt=say,
        )
        if base is not None and tuned is not None and server is None:
            watch("Measuring the update")
            _write_norms(done.output, base, tuned, named)
    show_run(done.output, done.summary, as_json, unmet=done.unmet)
    for why in done.unmet:
        say(why, "taia: ")
    if done.unmet:
        raise typer.Exit(3)


def _write_norms(output: Path, base: str, tuned: str, declare: dict[str, str]) -> None:
    """Add to a run where the update lives, which needs no model to run."""
    from taia.analysis.norms import UPDATE_FILE, update_norms, write_norms

    if (output / UPDATE_FILE).is_file():  # a run is of one pair of weights
        return
    try:
        write_norms(output / UPDATE_FILE, update_norms(base, tuned, declare))
    except InputError as error:
        say(f"Where the update lives cannot be told: {error.problem}")


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _flags(text: str) -> tuple[str, ...]:
    """Words as a shell splits them.

    Raises:
        InputError: If a quotation does not end.
    """
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise InputError(
            f"--vllm-args {text!r} cannot be read: {first_line(error)}.",
            "Write the flags as on a command line, each quotation with its end.",
        ) from error


def _ids(given: list[str]) -> dict[str, str]:
    """Mode → a model's id on the server, which may hold a ``=`` where no mode's name does.

    Raises:
        InputError: If one is not of the form ``MODE=ID``.
    """
    form = "MODE=ID, such as taia=my-model-taia"
    return pairs("--model-of", given, "what is whose", form, str.partition)
