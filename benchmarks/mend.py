"""Does ``taia mend`` give back what a fine-tune lost, and keep what it learnt?

For each fine-tune of :mod:`finetunes`: ``taia mend`` chooses, and then base, tuned, TAIA, TAIF, the
best of the WiSE-FT line, ``all - down_proj``, the learned α and what was chosen are measured on one
and the same part of the items, which nothing was searched or selected on. The line's best is the
one that is chosen as mend chooses, on the parts that mend may look at. With ``--cma``, so is
mergekit-evolve's way: CMA-ES (100 evaluations, σ₀ = 1/6) over a weight for the attention, the
feed-forward blocks and the rest of each of six slices of layers, by the same two measures.

Per fine-tune it prints the share of what was learnt that each keeps, and the share of the change
in general answers (KL from base) that it takes back.

    python benchmarks/mend.py --data DATA --work WORK --qwen0.5b FOLDER --qwen1.5b FOLDER
    python benchmarks/mend.py --data DATA --work WORK --only smollm2-gsm8k-harsh --cma
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from finetunes import FINETUNES, FineTune, made
from taia.checkpoint.locate import locate
from taia.demo.model import cached_model
from taia.evaluation.harness.drive import quiet_harness
from taia.mending.bench import Examples
from taia.mending.budget import Clock
from taia.mending.candidates import TAIA, Candidate, line
from taia.mending.choice import BothEnds, Measures
from taia.mending.flow import Flow
from taia.mending.journal import Journal
from taia.mending.run import KEEP, mend
from taia.mending.setup import Setting, set_up
from taia.mending.sources import read_given
from timing import say

#: Examples of each kind that everything is measured on, and the search of the line and of CMA-ES.
_REPORT: Final = 96
_SEARCH: Final = 48
_SEED: Final = 0
_EVALUATIONS: Final = 100
_SLICES: Final = 6
_OTHERS: Final = (
    TAIA,
    Candidate("taif", "taif", ""),
    Candidate("all - down_proj", "all - down_proj", ""),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    options = _options(arguments)
    models = {"smollm2": options.smollm2, "qwen0.5b": options.qwen05b, "qwen1.5b": options.qwen15b}
    results = {}
    for one in FINETUNES:
        if options.only and one.name not in options.only:
            continue
        if (model := models[one.model]) is None:
            say(f"{one.name}: left out, no folder of {one.model} is given")
            continue
        kept = options.work / one.name / ("result-cma.json" if options.cma else "result.json")
        if not kept.is_file():
            result = measured(one, model, options)
            kept.write_text(json.dumps(result, indent=1))
        results[one.name] = json.loads(kept.read_text())
    if options.json:
        print(json.dumps(results, indent=1))
    else:
        _print(results)
    return 0


def measured(one: FineTune, model: Path, options: argparse.Namespace) -> dict[str, Any]:
    """What mend chose of a fine-tune, and everything else beside it on the report part."""
    say(f"{one.name}: tuning")
    tuned, learn = made(one, model, options.data, options.work)
    folder = options.work / one.name
    say(f"{one.name}: mending")
    start = time.perf_counter()
    found = mend(
        model, tuned, learn=learn, output=folder / "mended", seed=_SEED,
        budget=options.budget, watch=lambda work, done, of: say(f"{work} {done}/{of}"),
    )  # fmt: skip
    seconds = time.perf_counter() - start
    plain = found.to_json()
    rows = {row["name"]: row for row in plain["candidates"]}
    chosen = plain["choice"]
    candidates = {each.name: each for each in _OTHERS}
    if "learned" in rows:
        candidates["learned"] = Candidate("learned", rows["learned"]["selection"], "")
    if chosen is not None:
        candidates["mend"] = Candidate("mend", chosen["selection"], "", 0, chosen.get("method"))
    with opened(one, model, tuned, learn, folder / "others") as flow:
        looked = flow.supply.examples(
            [*flow.learn.search, *flow.learn.select],
            [*flow.keep.search, *flow.keep.select],
            _SEARCH,
        )
        ends = flow.bench.ends(looked)
        of_line = {each.name: flow.bench.measure(each, looked) for each in line()}
        best = _best(of_line, ends)
        candidates["best of the line"] = next(each for each in line() if each.name == best)
        if options.cma:
            candidates["CMA-ES"] = evolved(flow, looked, ends)
        apart = flow.supply.examples(flow.learn.report.open(), flow.keep.report.open(), _REPORT)
        ends = flow.bench.ends(apart)
        shares = {
            name: _shares(flow.bench.measure(each, apart), ends)
            for name, each in candidates.items()
        }
    record = json.loads((tuned / "taia_config.json").read_text())
    return {
        "worse": plain["worse"],
        "choice": chosen,
        "why": plain["why"],
        "seconds": seconds,
        "trained": record.get("seconds"),
        "evaluations": plain["evaluations"],
        "examples": [len(apart.learn), len(apart.keep)],
        "gain": ends.gain,
        "divergence": ends.tuned.divergence.mean,
        "shares": shares,
    }


@contextmanager
def opened(one: FineTune, model: Path, tuned: Path, learn: Path, folder: Path) -> Iterator[Flow]:
    """The same models and items as mend has, in the same parts."""
    setting = Setting(
        locate(model),
        locate(tuned),
        read_given("--learn", [str(learn)], prompts=False, folders=()),
        read_given("--keep", [KEEP], prompts=True, folders=()),
        _SEED,
        None,
        "cpu",
        {},
        (),
        one.name,
    )
    folder.mkdir(exist_ok=True)
    with quiet_harness():
        journal = Journal(folder, {"of": one.name}, overwrite=False)
        yield set_up(setting, journal, Clock(1e9), lambda *_: None)


def evolved(flow: Flow, looked: Examples, ends: BothEnds) -> Candidate:
    """What CMA-ES finds: least KL, with a loss above the ceiling added as many times KL's size."""
    cma: Any = import_module("cma")  # pip install cma

    layers = 1 + max(part.label.layer or 0 for part in flow.model.changed)
    each = -(-layers // _SLICES)
    cuts = [f"[{first}:{first + each}]" for first in range(0, layers, each)]
    parts = [part for part in ("attention", "mlp") for _ in cuts]

    def candidate(weights: Sequence[float]) -> Candidate:
        clipped = [min(1.0, max(0.0, float(weight))) for weight in weights]
        terms = [
            f"{weight:.3f}*{part}{cut}"
            for weight, part, cut in zip(clipped, parts, cuts * 2, strict=True)
        ]
        return Candidate("CMA-ES", " + ".join(terms), "", len(terms))

    def cost(weights: Sequence[float]) -> float:
        found = flow.bench.measure(candidate(weights), looked)
        over = max(0.0, found.loss.mean - ends.ceiling()) / max(ends.gain, 1e-9)
        return float(found.divergence.mean + 100 * ends.tuned.divergence.mean * over)

    best, _ = cma.fmin2(
        cost, [0.5] * len(parts), 1 / 6,
        {"maxfevals": _EVALUATIONS, "seed": _SEED + 1, "verbose": -9},
    )  # fmt: skip
    return candidate(best)


def _best(found: Mapping[str, Measures], ends: BothEnds) -> str:
    """Of those within, the least KL; else the least loss."""
    within = {name: one for name, one in found.items() if ends.is_within(one)}
    if within:
        return min(within, key=lambda name: within[name].divergence.mean)
    return min(found, key=lambda name: found[name].loss.mean)


def _shares(found: Measures, ends: BothEnds) -> dict[str, float]:
    """What is kept of the learnt, what is taken back of the change, and the error of the latter."""
    apart = ends.tuned.divergence.minus(found.divergence)
    return {
        "kept": ends.kept(found),
        "back": ends.restored(found),
        "error": apart.error / ends.tuned.divergence.mean,
        "loss": found.loss.mean,
        "divergence": found.divergence.mean,
    }


def _print(results: Mapping[str, Any]) -> None:
    names = list(dict.fromkeys(name for one in results.values() for name in one["shares"]))
    for name, one in results.items():
        chosen = one["choice"]["name"] if one["choice"] else "none"
        print(
            f"{name}: worse {one['worse']}; chosen {chosen}; {one['seconds']:.0f} s, trained "
            f"{one['trained'] or 0:.0f} s; KL {one['divergence']:.3f}, gain {one['gain']:.3f}"
        )
        for each in names:
            if (share := one["shares"].get(each)) is not None:
                print(
                    f"  {each:18} keeps {100 * share['kept']:6.1f} %  takes back "
                    f"{100 * share['back']:6.1f} ± {196 * share['error']:.1f} %"
                )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="the folder of data sets")
    parser.add_argument("--work", type=Path, required=True, help="where fine-tunes are kept")
    parser.add_argument("--smollm2", type=Path, help="its folder, if not the demonstration's")
    parser.add_argument("--qwen0.5b", dest="qwen05b", type=Path, help="the 0.5B's folder")
    parser.add_argument("--qwen1.5b", dest="qwen15b", type=Path, help="the 1.5B's folder")
    parser.add_argument("--only", nargs="+", help="only these fine-tunes")
    parser.add_argument("--budget", help="of mend, if not its own")
    parser.add_argument("--cma", action="store_true", help="CMA-ES beside (pip install cma)")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    options = parser.parse_args(arguments)
    options.smollm2 = options.smollm2 or cached_model(say=say)
    return options


if __name__ == "__main__":
    raise SystemExit(main())
