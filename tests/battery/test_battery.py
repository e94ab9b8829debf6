"""Families of models × kinds of adapters × what is made of them; PEFT says what is right.

The base's numbers are bfloat16's, and the adapter is float32, as QLoRA and most recipes leave it.
Three routes, each against PEFT and transformers alone:

adapter  the filtered adapter, loaded by PEFT without a missing or unexpected key: logits bit for
         bit those of the whole adapter whose dropped updates were taken out by hand
merge    the checkpoint, loaded by transformers: in bfloat16 each weight is the exact one (PEFT's
         merge in float32) rounded once, so at most one unit in the last place away, 2⁻⁷ of it; in
         float32 the logits agree to rounding
live     SwitchableModel in the modes tuned, taia, taif and base: bit for bit
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cached_property, lru_cache
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch

import make_architectures
import taia
from battery import oracle
from battery.families import FAMILIES
from battery.kinds import ALSO, IMPOSSIBLE, KINDS

Rule = Callable[[str], bool]


class Case:
    """A family's model with an adapter of a kind, on disk and in memory."""

    def __init__(self, folder: Path, family: str, kind: str) -> None:
        self.family = FAMILIES[family]
        self.kind = kind
        self.base, self.rounded, model = bases(folder, family)
        self.model = model
        self.folder = folder / family / kind
        self.adapter = self.folder / "adapter"
        self.whole = oracle.trained(model, dict(KINDS[kind](self.family)))
        oracle.save(self.whole, self.adapter)

    @cached_property
    def rules(self) -> dict[str, Rule]:
        """Selection → whose updates it drops."""
        in_mlp = self.family.feeds_forward
        rules: dict[str, Rule] = {"taia": in_mlp, "taif": lambda path: not in_mlp(path)}
        if self.kind in ALSO:
            selection, modules = ALSO[self.kind]
            endings = modules(self.family)
            rules[selection] = lambda path: path.split(".")[-1] in endings
        return rules

    @cached_property
    def scores(self) -> dict[str, torch.Tensor]:
        """Mode → logits."""
        scores = {"base": oracle.logits(self.model), "tuned": oracle.logits(self.whole)}
        for selection, drops in self.rules.items():
            with oracle.without(self.whole, self.model, drops):
                scores[selection] = oracle.logits(self.whole)
        # The control: what the routes are compared on tells the modes apart.
        for one, other in combinations(scores, 2):
            assert (scores[one] - scores[other]).abs().max() > 1e-3, (one, other)
        return scores


@lru_cache(maxsize=1)
def bases(folder: Path, family: str) -> tuple[Path, Path, Any]:
    """A family's base in float32 and bfloat16, and in memory."""
    model = oracle.random_model(FAMILIES[family])
    base, rounded = folder / family / "base", folder / family / "rounded"
    copy.deepcopy(model).bfloat16().save_pretrained(rounded)
    model.save_pretrained(base)
    model.name_or_path = str(base)
    return base, rounded, model


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("battery")


CELLS = [
    pytest.param((family, kind), id=f"{family}-{kind}")
    for family in FAMILIES
    for kind in KINDS
    if (family, kind) not in IMPOSSIBLE
]


@pytest.fixture(scope="module", params=CELLS)
def case(request: pytest.FixtureRequest, folder: Path) -> Case:
    return Case(folder, *request.param)


def test_adapter(case: Case) -> None:
    for number, keep in enumerate(selection for selection in case.rules if selection != "taif"):
        output = case.folder / f"out{number}"
        taia.compose(case.base, case.adapter, output, keep=keep)
        found = oracle.logits(oracle.adapted(case.model, output))
        assert torch.equal(found, case.scores[keep]), keep


def test_merge(case: Case) -> None:
    with oracle.without(case.whole, case.model, case.rules["taia"]):
        wanted = oracle.merged(case.whole)
    scores = case.scores["taia"]
    torch.testing.assert_close(oracle.logits(wanted), scores, rtol=1e-4, atol=1e-4)
    load = oracle.auto_class(case.family).from_pretrained
    taia.compose(case.rounded, case.adapter, case.folder / "rounded", keep="taia", merge=True)
    rounded = load(case.folder / "rounded", dtype="auto").state_dict()
    assert rounded.keys() == wanted.state_dict().keys()
    for name, tensor in wanted.state_dict().items():
        torch.testing.assert_close(rounded[name].float(), tensor, rtol=2**-7, atol=1e-6, msg=name)
    taia.compose(case.base, case.adapter, case.folder / "merged", keep="taia", merge=True)
    merged = oracle.logits(load(case.folder / "merged").eval())
    torch.testing.assert_close(merged, scores, rtol=1e-4, atol=1e-4)


def test_live(case: Case) -> None:
    model = taia.SwitchableModel.load(case.rounded, case.adapter, device="cpu")
    for mode, scores in case.scores.items():
        with model.mode(mode):
            assert torch.equal(oracle.logits(model), scores), mode


@pytest.mark.parametrize(("cell", "words"), IMPOSSIBLE.items())
def test_what_peft_cannot_do_it_still_cannot(
    cell: tuple[str, str], words: str, folder: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        Case(folder, *cell)


def test_the_page_says_what_is_covered() -> None:
    assert make_architectures.adapters() in make_architectures.PAGE.read_text("utf-8")
