"""Tables of checkpoints: what a model is made of, and what a composition keeps."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table
from rich.text import Text

from taia.anatomy import Anatomy, TensorInfo
from taia.checkpoint.composition import Composition, MatchRow, Share
from taia.reporting.checkpoints import anatomy_table, match_table
from taia.selection import Pieces


def shown(renderable, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    return console.file.getvalue().splitlines()


def rows(made: Table) -> list[list[str]]:
    columns = [[c.plain if isinstance(c, Text) else str(c) for c in x.cells] for x in made.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def tensors(layers) -> list[TensorInfo]:
    shapes = {"self_attn.q_proj": (4, 8), "mlp.up_proj": (500, 8), "input_layernorm": (8,)} | {
        "post_attention_layernorm": (8,)
    }
    return [
        TensorInfo(f"model.layers.{layer}.{name}.weight", shape)
        for layer in layers
        for name, shape in shapes.items()
    ] + [TensorInfo("model.embed_tokens.weight", (260, 8))]


def composed(selection: str) -> Composition:
    attention = MatchRow("attention", tuned=Share(4, 4000, 8000))
    mlp = MatchRow("mlp", base=Share(2, 2_000_000, 4_000_000), blended=Share(1, 30, 60))
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
