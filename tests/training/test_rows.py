import json

import pytest

from taia.errors import DataError
from taia.training.rows import read_pairs

GOOD = {
    "prompt": [{"role": "user", "content": "a"}],
    "completion": [{"role": "assistant", "content": "b"}],
}


def test_reads_rows(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(GOOD) + "\n\n" + json.dumps({**GOOD, "more": 1}) + "\n")
    assert read_pairs(path) == [GOOD, GOOD]


@pytest.mark.parametrize(
    "bad",
    [
        [],
        {"prompt": GOOD["prompt"]},
        {**GOOD, "prompt": "a"},
        {**GOOD, "prompt": []},
        {**GOOD, "completion": [{"role": "assistant"}]},
        {**GOOD, "completion": [{"role": "assistant", "content": ""}]},
    ],
)
def test_a_bad_line_is_named(tmp_path, bad):
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + json.dumps(bad))
    with pytest.raises(DataError, match=r"t\.jsonl, line 2"):
        read_pairs(path)
