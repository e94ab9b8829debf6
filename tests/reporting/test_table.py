"""Tables in the terminal: their numbers, and that they fit."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from comparisons import comparison, realistic
from taia.anatomy import Anatomy, TensorInfo
from taia.checkpoint.composition import Composition, Row, Share
from taia.reporting import table
from taia.reporting.anatomy import anatomy_table
from taia.reporting.match import copying, match_table
from taia.reporting.words import change, findings, interval, percent
from taia.reporting.words import pairs as pairs_of
from taia.selection import Pieces


def shown(renderable, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    return console.file.getvalue().splitlines()


def rows(made: table.Table) -> list[list[str]]:
    columns = [[c.plain if isinstance(c, Text) else str(c) for c in x.cells] for x in made.columns]
    return [list(row) for row in zip(*columns, strict=True)]


LONG = "attention[0:16] + 0.5*mlp + 0.25*norm[0:8]"


@pytest.mark.parametrize("made", [realistic(), realistic(**{LONG: LONG})], ids=["four", "long"])
def test_the_comparison_fits_eighty_columns_and_cuts_nothing(made):
    lines = shown(table.render(made))
    assert max(map(len, lines)) <= 80
    text = "".join(lines)
    assert "…" not in text
    for mode in made.modes:
        for group in (*made.kinds, "knowledge", "skill"):
            assert percent(made.accuracy(mode, group)) in text
            assert interval(made.accuracy(mode, group)) in text
    for pair in pairs_of(made.modes):
        assert any(change(made.difference(*pair, "knowledge")) in line for line in lines)
    words = " ".join(" ".join(lines).split())
    assert all(sentence in words for sentence in findings(made))


def test_accuracies_are_the_comparisons():
    made = realistic()
    found = rows(table.accuracies(made))
    assert [row[0] for row in found] == [*made.modes, "guessing"]
    for mode, row in zip(made.modes, found, strict=False):
        estimates = [made.accuracy(mode, group) for group in made.groups]
        assert row[1:] == [f"{percent(e)}\n{interval(e)}" for e in estimates]
    assert found[-1][1:] == ["25"] * 7


def test_a_star_stands_where_the_interval_excludes_zero_and_nowhere_else():
    made = realistic()
    stars = 0
    for (one, other), row in zip(pairs_of(made.modes), rows(table.differences(made)), strict=True):
        for group, cell in zip(("knowledge", "skill"), row[1:], strict=True):
            difference = made.difference(one, other, group)
            assert cell == change(difference) + ("*" if difference.is_clear else " ")
            stars += difference.is_clear
    assert 0 < stars < 10


@pytest.mark.parametrize(
    ("modes", "pairs"),
    [
        (["base", "tuned"], ["tuned-base"]),
        (["tuned", "taia", "base"], ["tuned-base", "taia-base", "taia-tuned"]),
        (["base", "taia"], ["taia-base"]),
        (["taia", "taif"], []),
        (["base"], []),
    ],
)
def test_what_is_compared_with_what(modes, pairs):
    made = comparison({mode: {"law": "10"} for mode in modes})
    assert ["-".join(pair) for pair in pairs_of(made.modes)] == pairs
    assert any("Differences" in line for line in shown(table.render(made))) == bool(pairs)


def test_groups_without_questions_have_no_column():
    for kind, absent in (("law", "skill"), ("trained", "knowledge")):
        made = comparison({mode: {kind: "10"} for mode in ("base", "tuned")})
        text = "\n".join(shown(table.render(made)))
        assert absent not in text
        assert "nan" not in text


def test_names_with_brackets_are_shown_as_they_are():
    name = "re:'[a-z]_proj'"
    made = comparison({mode: {"[red]law": "10"} for mode in ("base", "tuned", name)})
    text = "\n".join(shown(table.render(made)))
    assert rows(table.accuracies(made))[2][0] == name
    assert sum(line.split()[:2] == [name, "50.0"] for line in text.splitlines()) == 1
    assert f"{name} − tuned" in text
    assert f"“{name}”" in text
    assert "[red]law" in text


def composed(selection: str) -> Composition:
    attention = Row("attention", tuned=Share(4, 4000, 8000))
    mlp = Row("mlp", base=Share(2, 2_000_000, 4_000_000), blended=Share(1, 30, 60))
    return Composition(None, "checkpoint", selection, (attention, mlp), {})


def test_the_match_table_has_a_line_for_each_source_that_gave_something():
    assert rows(match_table(composed("attention + 0.5*mlp"))) == [
        ["attention", "tuned", "4", "4 K", "8 kB"],
        ["mlp", "base", "2", "2 M", "4 MB"],
        ["mlp", "both", "1", "30", "60 B"],
        ["total", "base", "2", "2 M", "4 MB"],
        ["total", "tuned", "4", "4 K", "8 kB"],
        ["total", "both", "1", "30", "60 B"],
    ]


def test_the_match_table_names_the_selection_as_it_is():
    assert "keep re:'[a-z]_proj'" in shown(match_table(composed("re:'[a-z]_proj'")))[0]


def test_no_bar_of_bytes_outside_a_terminal():
    console = Console(file=io.StringIO())
    with copying(console) as told:
        assert told is None
    assert console.file.getvalue() == ""


def test_a_bar_of_bytes_in_a_terminal():
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with copying(console) as told:
        told(1_000_000, 2_000_000)
    assert "1.0/2.0 MB" in console.file.getvalue()


def tensors(layers) -> list[TensorInfo]:
    shapes = {"self_attn.q_proj": (4, 8), "mlp.up_proj": (500, 8), "input_layernorm": (8,)} | {
        "post_attention_layernorm": (8,)
    }
    return [
        TensorInfo(f"model.layers.{layer}.{name}.weight", shape)
        for layer in layers
        for name, shape in shapes.items()
    ] + [TensorInfo("model.embed_tokens.weight", (260, 8))]


def test_the_anatomy_table_counts_each_kind_once():
    found = rows(anatomy_table(Anatomy.of_tensors(tensors([0, 1, 2, 5])), None))
    assert [(row[0], row[2], *row[4:]) for row in found] == [
        ("attention_norm", "0-2, 5", "4", "32"),
        ("embedding", "", "1", "2.08 K"),
        ("mlp", "0-2, 5", "4", "16 K"),
        ("mlp_norm", "0-2, 5", "4", "32"),
        ("self_attention", "0-2, 5", "4", "128"),
    ]


def test_the_anatomy_table_shows_every_alpha_of_a_kind():
    anatomy = Anatomy.of_tensors(tensors([0, 1]))
    alphas = dict.fromkeys(anatomy, 0.0)
    alphas["model.layers.0.mlp.up_proj.weight"] = 0.5
    alphas["model.layers.0.self_attn.q_proj.weight"] = Pieces(0, ((0, 2, 1.0), (2, 4, 0.0)))
    found = {row[0]: row[-1] for row in rows(anatomy_table(anatomy, alphas))}
    assert found == {
        "attention_norm": "0",
        "embedding": "0",
        "mlp": "0, 0.5",
        "mlp_norm": "0",
        "self_attention": "0, 1",
    }
