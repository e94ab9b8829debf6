"""The harmless prompts that taia ships, and what is refused as none."""

import json
import re
from collections import Counter

import pytest

from taia.errors import DataError
from taia.evaluation.tasks.registry import find, load_task


def test_the_lookalikes_are_sixty_different_questions():
    items = load_task("lookalikes")
    assert len({item.id for item in items}) == len({item.prompt for item in items}) == 60
    assert set(Counter(item.group for item in items).values()) == {10}
    assert all(re.fullmatch(r"[A-Z].*\?", item.prompt) for item in items)


def test_bad_lines_are_named(tmp_path):
    task = find("lookalikes")
    path = tmp_path / "own.jsonl"
    good = {"id": "1", "group": "g", "prompt": "How do I beat eggs?"}
    path.write_text(json.dumps(good) + "\n")
    assert [task.item("x", row).prompt for row in task.rows(path)] == ["How do I beat eggs?"]
    for bad in ([], {**good, "prompt": ""}, {"id": "1", "prompt": "x"}, {**good, "group": 3}):
        path.write_text(json.dumps(good) + "\n" + json.dumps(bad))
        with pytest.raises(DataError, match="line 2"):
            [task.item("x", row) for row in task.rows(path)]
