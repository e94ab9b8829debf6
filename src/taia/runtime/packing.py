"""Continuations of a prompt, side by side in one row.

A row for each continuation copies its prompt's keys and values as many times, and pads all to the
longest. In one row they follow each other, none sees another, and each has the positions that it
would have alone: a tree of one fork. That takes a mask of four dimensions, which a model is tried
on before it is trusted with one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import torch

from taia.runtime.forward import MOVED, Forward, at_rest
from taia.runtime.prefix import Prefix

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

#: Attention that adds a mask of four dimensions to its scores.
_ADDS_MASKS: Final = ("eager", "sdpa")


class Longer(NamedTuple):
    """An option of more than one token: its prompt's row in the cache, and whose it is."""

    row: int
    request: int
    number: int
    option: tuple[int, ...]

    @property
    def run(self) -> tuple[int, ...]:
        """The tokens that run: all that predict another."""
        return self.option[:-1]


#: Options of one prompt that run in one row.
Pack: TypeAlias = list[Longer]


def size(pack: Pack) -> int:
    """How many tokens of a row run."""
    return sum(len(one.run) for one in pack)


def packed(longer: Sequence[Longer], most: int) -> Iterator[Pack]:
    """The options of each prompt in one row, or in more if they are more than so many tokens.

    Args:
        longer: The options of a prompt follow each other.
        most: Tokens of a row.
    """
    for _, options in groupby(longer, key=lambda one: one.row):
        pack: Pack = []
        for one in options:
            if pack and size([*pack, one]) > most:
                yield pack
                pack = []
            pack.append(one)
        yield pack


def run_packs(
    forward: Forward, packs: Sequence[Pack], after: Prefix
) -> tuple[torch.Tensor, list[tuple[int, int]]]:
    """Run options after their prompts.

    Args:
        forward: The model's.
        packs: A row each.
        after: What the rows go on from.

    Returns:
        Logits ``[rows, new, vocabulary]``, and the row and position at which each option begins.
    """
    new = max(map(size, packs))
    # The pad is any token: it comes after everything that is read.
    ids = torch.zeros(len(packs), new, dtype=torch.long)
    fork = torch.full_like(ids, -1)
    offset = torch.zeros_like(ids)
    places = []
    for row, pack in enumerate(packs):
        place = 0
        for number, one in enumerate(pack):
            places.append((row, place))
            end = place + len(one.run)
            ids[row, place:end] = torch.tensor(one.run)
            fork[row, place:end] = number
            offset[row, place:end] = torch.arange(len(one.run))
            place = end
    placed = None
    if any(len(pack) > 1 for pack in packs):
        before = after.seen(after.width)[:, None].expand(-1, new, -1)
        own = (fork[:, :, None] == fork[:, None]) & torch.ones(new, new, dtype=torch.bool).tril()
        hidden = ~torch.cat([before, own], dim=-1)[:, None]
        mask = torch.zeros(hidden.shape, dtype=forward.dtype)
        placed = {
            "attention_mask": mask.masked_fill(hidden, torch.finfo(forward.dtype).min),
            "position_ids": (after.width - after.padding)[:, None] + offset,
        }
    return after.run(forward, ids, new, placed)[0], places


def can_pack(model: PreTrainedModel | PeftModel) -> bool:
    """Whether options in one row give what each gives alone, which is tried.

    Of a model whose cache is whole and that can be told positions.
    """
    if model.config._attn_implementation not in _ADDS_MASKS:
        return False
    forward = Forward(model)
    options = [Longer(0, 0, number, option) for number, option in enumerate(_TRIED)]
    with at_rest(model):
        after = Prefix.of(forward, _TRIED_AFTER)
        together, *alone = (
            run_packs(forward, [pack], after.rows([0]))[0].float()
            for pack in (options, *([one] for one in options))
        )
    apart = torch.cat(alone, dim=1)
    return bool((together - apart).abs().max() <= MOVED * apart.std())


_TRIED_AFTER: Final = (1, 2, 3)
_TRIED: Final = ((4, 5, 6), (2, 4, 1))
