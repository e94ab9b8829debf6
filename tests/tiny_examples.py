"""Learnt rows and kept examples of random tokens, for models of a small vocabulary."""

from __future__ import annotations

import numpy as np

from taia.mending.examples import Example


def examples(count: int, seed: int, longest: int = 20, vocabulary: int = 60) -> list[Example]:
    """Examples of many lengths, of which one counts a single token, and one all."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        length = int(random.integers(3, longest))
        ids = tuple(int(token) for token in random.integers(0, vocabulary, length))
        many = {0: 1, 1: length - 1}.get(number, int(random.integers(1, length)))
        places = sorted(random.choice(np.arange(1, length), many, replace=False).tolist())
        made.append(Example(f"{number}", ids, tuple(places)))
    return made


LEARN = examples(7, 1)
KEEP = examples(6, 2)
