"""A run's page is well formed, asks for nothing, and shows the summary's numbers."""

from __future__ import annotations

import csv as tables
import io
import re

import pytest
from rich.console import Console

from eval_runs import RATES, facts, result, results, write_run
from pages import Page, contrast, table, text
from taia.analysis.norms import Norm, Norms, write_norms
from taia.evaluation.scores.summary import Summary
from taia.reporting import words
from taia.reporting.findings import findings
from taia.reporting.html import render
from taia.reporting.runs import FinishedRun, open_runs
from taia.reporting.table import csv
from taia.reporting.table import render as render_table
from taia.reporting.text import card, report
from taia.reporting.words import change, pairs

HOSTILE = '</title></code><script src="http://evil.example/x.js">alert("1")</script><img onerror=x>'
NORMS = Norms(
    "base",
    "tuned",
    (
        Norm(None, "embedding", "embed_tokens", 0.0, 9.0, 1),
        Norm(0, "attention", "q_proj", 0.5, 10.0, 1),
        Norm(1, "attention", "q_proj", 1.0, 10.0, 1),
        Norm(0, "mlp", "up_proj", 0.0, 5.0, 1),
    ),
    ("Something is left out.",),
)


def run(made=None, norms: Norms | None = NORMS, name: str = "run", **more) -> FinishedRun:
    made = results() if made is None else made
    return FinishedRun(name, Summary.of(made, facts(made, **more)), norms)


def captions(root) -> list[str]:
    return [text(caption) for caption in root.iter("figcaption")]


ODD = {
    "the paper's": [run()],
    "no norms, no recipe": [run(norms=None, recipe=None, settings={}, hashes={})],
    "one mode": [run([result("csqa", "base", [1.0, 0.0])], None)],
    "no base": [run([result(t, m, [1.0, 0.0]) for t in "ab" for m in ("taia", "taif")], None)],
    "only safety": [run([result("advbench", m, [1.0, 0.0], "asr") for m in RATES], None)],
    "no shares": [run([result("p", m, [12.0, 9.0], "word_perplexity") for m in RATES], None)],
    "a mode without a task": [run([*results(), result("extra", "taia", [1.0])])],
    "one item": [run(results(items=1))],
    "eight modes": [run([result(t, f"m{n}", [1.0, 0.0]) for t in "ab" for n in range(8)])],
    "seeds": [run(results(seed=n, items=30), name=f"seed {n}") for n in range(3)],
    "unlike": [run(), run([result("csqa", "base", [1.0])], None, "other")],
}


@pytest.mark.parametrize("runs", ODD.values(), ids=ODD)
def test_every_run_gives_a_well_formed_page(runs):
    source = render(runs, "taia report")
    root = Page(source).root
    assert not re.search(r"\b(nan|None|inf)\b", text(root))
    assert len(root.findall(".//section")) == (len(runs) if len(runs) > 1 else 0)
    lists = root.findall(".//ul[@class='findings']")
    alike = len({r.summary.modes + r.summary.tasks for r in runs}) < len(runs)
    for found, one in zip(lists[alike:], runs, strict=True):
        assert [text(li) for li in found] == findings(one.summary, one.norms)
    assert bool([d for d in root.iter("div") if d.get("aria-label") == "Side by side"]) == alike


def test_it_shows_what_there_is():
    assert captions(Page(render(ODD["the paper's"], "x")).root) == [
        *(f"{mode} − {other}The 7 tasks of the average. To the right is better. Bars are 95% "
          "intervals; a hollow mark may be chance." for mode, other in pairs(tuple(RATES))),
        "Safety against helpfulness: advbenchUp and to the left is better. Crosses are 95% "
        "intervals.",
        "Safety against helpfulness: lookalikesUp and to the left is better. Crosses are 95% "
        "intervals.",
        "ScoresBars are 95% intervals.",
        "TrainingThe loss of each step written down.",
        "Size, by layer and projection‖ΔW‖ in % of ‖W‖; a dot is no update at "
        "all.",
    ]  # fmt: skip
    assert len(captions(Page(render(ODD["one mode"], "x")).root)) == 2
    assert len(captions(Page(render(ODD["only safety"], "x")).root)) == 2


def test_scores_are_the_summarys():
    (one,) = ODD["the paper's"]
    summary = one.summary
    root = Page(render([one], "x")).root
    head, *rows = table(root, "Scores")
    names = [re.sub(r" ?(300|7 tasks)$", "", text(cell)) for cell in head[1:]]
    assert names[:8] == ["average", *summary.averaged]
    assert names[8:] == ["advbench ↓", "lookalikes ↓"]
    tasks = [name.removesuffix(" ↓") for name in names]
    for mode, (_, *cells) in zip(summary.modes, rows, strict=True):
        for task, cell in zip(tasks, cells, strict=True):
            shown = [cell.text, *(text(small) for small in cell)]
            if task == "average":
                average = summary.average(mode)
                marks = words.average_marks(summary, mode)
                wanted = [words.mean(average), words.spread(average.standard_error)]
            else:
                marks = words.marks(summary, mode, task)
                wanted = [words.score(summary, mode, task), words.error(summary, mode, task)]
            assert shown == [*wanted, *(mark for mark, _ in marks)]


def test_differences_are_the_summarys():
    (one,) = ODD["the paper's"]
    summary = one.summary
    head, *rows = table(Page(render([one], "x")).root, "Differences")
    assert [text(cell) for cell in head[1:]] == [f"{a} − {b}" for a, b in pairs(summary.modes)]
    for row in rows:
        task = text(row[0]).removesuffix(" ↓")
        for (mode, other), cell in zip(pairs(summary.modes), row[1:], strict=True):
            if task.startswith("average"):
                found = summary.average_difference(mode, other)
                clear = found.is_clear
            else:
                found = summary.difference(mode, other, task)
                clear = found.is_real
            mark, value = ("▲▼" if clear else ""), change(found)
            shown = " ".join([(cell.text or "").strip(), text(cell[0])])
            assert shown.lstrip("▲▼ ") == value
            assert (cell.get("class") == "clear") == clear == (shown[0] in mark)


def test_signs_and_arrows_agree_and_colours_say_what_is_better():
    (one,) = ODD["the paper's"]
    seen = set()
    for row in table(Page(render([one], "x")).root, "Differences")[1:]:
        lower = text(row[0]).endswith("↓")
        for cell in row[1:]:
            shown, smalls = (cell.text or "").split(), list(cell)
            if shown[0] in "▲▼":
                assert shown[1][0] == {"▲": "+", "▼": "−"}[shown[0]]
                word = "better" if (shown[0] == "▲") != lower else "worse"
                assert (smalls[-1].get("class"), smalls[-1].text) == (word, word)
                seen.add((shown[0], lower))
            else:
                assert len(smalls) == 1
    assert len(seen) == 4
    for row in table(Page(render([one], "x")).root, "Scores")[1:]:
        for task, cell in zip(("average", *one.summary.tasks), row[1:], strict=True):
            for small in cell.findall("small")[1:]:
                lower = task in one.summary.safety
                word = "better" if ((small.text or "")[0] == "▲") != lower else "worse"
                assert small.get("class") == word


def test_what_is_not_known_is_said_in_every_output():
    made = [
        *results(items=40),
        *(result("tiny", mode, [1.0]) for mode in RATES),
        *(result("nats", mode, [7.5, 8.5], "word_perplexity") for mode in RATES),
    ]
    one = run(made)
    root = Page(render([one], "x")).root
    head, *rows = table(root, "Scores")
    at = [text(cell) for cell in head].index("tiny 1")
    assert [text(row[at].find("small")) for row in rows] == ["no ±"] * 4
    assert {text(row[1].find("small")) for row in rows} == {"no ±"}  # the average with it
    (nats,) = [row for row in table(root, "Differences") if text(row[0]) == "nats ↓"]
    assert {text(cell.find("small")) for cell in nats[1:]} == {"(no interval)"}
    console = Console(file=io.StringIO(), width=80)
    console.print(render_table(one.summary))
    for shown in (text(root), report([one]), card([one]), console.file.getvalue()):
        plain = " ".join(shown.replace("\\", "").split())
        assert "No ±: one item has no standard error (tiny), nor has an average with it." in plain
        assert not re.search(r"\b(nan|None|inf)\b", plain)
    read = {
        (row["mode"], row["task"]): row
        for row in tables.DictReader(io.StringIO(csv(("run", one.summary))))
    }
    for mode in RATES:
        assert read[mode, "tiny"]["standard_error"] == ""
        assert read[mode, "nats"]["low"] == read[mode, "nats"]["high"] == ""
        assert float(read[mode, "nats"]["score"]) == 8.0
        assert read[mode, "average"]["standard_error"] == ""
    assert read["taia", "nats"]["minus_base_p"] == read["taia", "nats"]["minus_base_low"] == ""
    assert read["taia", "nats"]["minus_base_real"] == "False"


def test_a_page_is_small():
    assert len(render(ODD["the paper's"], "x").encode()) < 100_000


def test_runs_that_are_alike_stand_side_by_side():
    runs = ODD["seeds"]
    root = Page(render(runs, "x")).root
    head, *rows = table(root, "Side by side")
    assert len(rows) == 4 * 3
    for number, row in enumerate(rows):
        mode, one = list(RATES)[number // 3], runs[number % 3]
        assert text(row[0]) == f"{mode}{one.name}"
        cell = row[[text(h) for h in head].index("csqa")]
        assert text(cell) == words.score(one.summary, mode, "csqa")
    means = [r.summary.average_difference("taia", "tuned").value for r in runs]
    (sentence,) = [s for s in root.itertext() if s.startswith("TAIA minus tuned on average")]
    assert f"mean +{100 * sum(means) / 3:.1f}" in sentence


def test_it_asks_for_nothing():
    source = render(ODD["eight modes"] + ODD["the paper's"], "x")
    root = Page(source).root
    assert {e.tag for e in root.iter()}.isdisjoint(
        {"script", "link", "img", "iframe", "object", "embed", "base", "form", "a"}
    )
    keys = {key for e in root.iter() for key in e.attrib}
    assert not {k for k in keys if k in ("src", "href", "srcset", "style") or k.startswith("on")}
    assert not re.search(r"https?:|url\(|@import|//[a-z]", source)


def hostile(word: str) -> list[FinishedRun]:
    made = [
        result(task, mode, [1.0] * 9, metric, protocol=word, version=word, selection=word)
        for mode in ("base", "tuned", word)
        for task, metric in ((word, "acc"), (f"{word}2", "acc"), (f"{word}3", "asr"))
    ]
    norms = Norms("b", "t", (Norm(0, word, word, 1.0, 1.0, 1),), (word,))
    given = {"command": word, "base": word, "tuned": word}
    tables = {name: {word: word} for name in ("settings", "hashes", "versions")}
    return [run(made, norms, f"{word}{n}", recipe={"recipe": {word: [word]}}, **given, **tables)
            for n in range(2)]  # fmt: skip


def test_hostile_text_stays_text():
    bad, tame = (Page(render(hostile(word), word)).root for word in (HOSTILE, "tame"))
    assert [e.tag for e in bad.iter() if e.tag != "title"] == (
        [e.tag for e in tame.iter() if e.tag != "title"]
    )
    assert not {"script", "img"} & {e.tag for e in bad.iter()}
    assert text(bad.findall(".//pre/code")[0]) == HOSTILE


def test_text_and_marks_can_be_told_from_the_page_in_light_and_dark():
    source = render(ODD["the paper's"], "x")
    schemes = re.findall(r":root \{(.*?)\}", source, re.DOTALL)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+): (#\w+)", scheme))
        assert all(contrast(colours[f"c{n}"], colours["page"]) >= 3 for n in range(6))
        assert all(contrast(colours[name], colours["page"]) >= 4.5 for name in ("c1", "c4"))
        for words_colour in ("text", "dim"):
            for ground in ("page", "soft"):
                assert contrast(colours[words_colour], colours[ground]) >= 4.5
    used = {c for e in Page(source).root.iter() for c in e.get("class", "").split()}
    styled = set(re.findall(r"\.([a-z]\w*)", source[: source.index("</style>")]))
    assert used <= styled | {"label", "plot", "axis"}


def test_folders_are_read(tmp_path):
    write_run(tmp_path / "one")
    write_norms(tmp_path / "one" / "update.json", NORMS)
    write_run(tmp_path / "a" / "two")
    write_run(tmp_path / "b" / "two")
    one, two = open_runs([tmp_path / "one", tmp_path / "a" / "two"])
    assert (one.name, two.name) == ("one", "two")
    assert (one.norms, two.norms) == (NORMS, None)
    assert one.models == "base and tuned"
    assert one.losses == [4 / n for n in range(1, 25)]
    assert one.sections["Recipe"] == {
        "technique": "lora", "lora_r": "16", "data": "train.jsonl", "seed": "0"
    }  # fmt: skip
    assert one.sections["Hashes"] == {"base.model.safetensors": "ab" * 32}
    same = open_runs([tmp_path / "a" / "two", tmp_path / "b" / "two"])
    assert [r.name for r in same] == [str(tmp_path / "a" / "two"), str(tmp_path / "b" / "two")]
