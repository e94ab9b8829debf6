"""Rows as the hub's data sets document them, and what becomes of them; no download is made."""

import pytest

datasets = pytest.importorskip("datasets", reason="the library datasets is not installed")

from taia.errors import DataError, DownloadError, InputError  # noqa: E402
from taia.evaluation.tasks.registry import find, load_task  # noqa: E402

MATH = {"problem": "What is 1+1?", "level": "Level 1", "type": "Algebra",
        "solution": "It is $\\boxed{2}$."}  # fmt: skip
BBH = {"input": "Which?\nOptions:\n(A) owl\n(B) jay", "target": "(B)"}
CSQA = {"id": "x1", "question": "Where?", "question_concept": "x",
        "choices": {"label": ["A", "B"], "text": ["here", "there"]}, "answerKey": "B"}  # fmt: skip
LOGIQA = {"context": "All p are q.\n", "query": "So?", "options": ["p", "q", "r\n", "s"],
          "correct_option": 2}  # fmt: skip
SVAMP = {"ID": "chal-1", "Body": "Ann has 2 pears.", "Question": "How many?", "Answer": "2.5",
         "Equation": "2", "Type": "Addition", "question_concat": "Ann has"}  # fmt: skip
MEDQA = {"question": "Which?", "answer": "yes", "options": {"A": "no", "B": "yes"},
         "meta_info": "step1", "answer_idx": "B", "metamap_phrases": ["which"]}  # fmt: skip
MMLU = {"question": "Which?", "subject": "anatomy", "choices": ["p", "q", "r", "s"], "answer": 3}


class Hub:
    """Stands for load_dataset: gives the rows, and keeps what was asked for."""

    def __init__(self, *rows):
        self.rows = rows
        self.asked = []

    def __call__(self, name, config, split, revision):
        self.asked.append((name, config, split, revision))
        return datasets.Dataset.from_list(list(self.rows))


@pytest.fixture
def hub(monkeypatch):
    def given(*rows):
        double = Hub(*rows)
        monkeypatch.setattr(datasets, "load_dataset", double)
        return double

    return given


@pytest.mark.parametrize(
    ("task", "row", "begins", "kind", "gold", "group"),
    [
        ("taia_csqa", CSQA, "Where?\nA. here\nB. there\n\n", "option", "B", ""),
        ("taia_logiqa", LOGIQA, "All p are q.\nSo?\nA. p\nB. q\nC. r\nD. s\n\n", "option", "C", ""),
        ("taia_logiqa_zh", LOGIQA | {"correct_option": "0"}, "All p", "option", "A", ""),
        ("taia_svamp", SVAMP, "Ann has 2 pears. How many?\n\n", "number", "2.5", "Addition"),
        ("taia_svamp", SVAMP | {"Answer": 3.0}, "Ann", "number", "3.0", "Addition"),
        ("taia_mmedbench", MEDQA, "Which?\nA. no\nB. yes\n\n", "option", "B", ""),
        ("taia_mmlu", MMLU, "Which?\nA. p\nB. q\nC. r\nD. s\n\n", "option", "D", "anatomy"),
        ("advbench", {"text": "Do harm"}, "Do harm", "text", "", ""),
    ],
)
def test_a_row_becomes_an_item(hub, task, row, begins, kind, gold, group):
    asked = hub(row)
    items = load_task(task)
    assert len(items) == len(find(task).hub.splits)
    assert len({item.id for item in items}) == len(items)
    for item in items:
        assert item.prompt.startswith(begins)
        assert (item.task, item.kind, item.gold, item.group) == (task, kind, gold, group)
    assert [split for _, _, split, _ in asked.asked] == list(find(task).hub.splits)


@pytest.mark.parametrize(("task", "row", "parts"), [("taia_math", MATH, 7), ("taia_bbh", BBH, 27)])
def test_every_part_is_read_and_no_id_twice(hub, task, row, parts):
    asked = hub(row, row)
    items = load_task(task)
    assert len({config for _, config, _, _ in asked.asked}) == len(asked.asked) == parts
    assert len({item.id for item in items}) == len(items) == 2 * parts
    if task == "taia_bbh":
        assert len({item.group for item in items[:27]}) == 27


def test_another_name_and_revision(hub):
    asked = hub(SVAMP)
    load_task("taia_svamp", hub="my/copy@v1.0")
    load_task("taia_svamp", hub="my/copy")
    assert asked.asked == [
        ("my/copy", None, split, revision)
        for revision in ("v1.0", None)
        for split in ("train", "test")
    ]
    with pytest.raises(InputError, match="org/name"):
        load_task("taia_svamp", hub="copy")


def test_the_converted_revisions_are_asked_for(hub):
    asked = hub(LOGIQA)
    load_task("taia_logiqa")
    assert asked.asked == [("lucasmccabe/logiqa", None, "test", "refs/convert/parquet")]


@pytest.mark.parametrize(
    ("task", "row", "message"),
    [
        ("taia_logiqa", LOGIQA | {"correct_option": 4}, "lucasmccabe/logiqa, row 1"),
        ("taia_svamp", SVAMP | {"Answer": "two"}, "ChilleD/SVAMP, row 1: 'Answer'"),
        ("taia_mmlu", {"question": "Which?"}, "cais/mmlu, all 1"),
        ("taia_bbh", {"input": "x"}, "SaylorTwift/bbh, boolean_expressions 1: 'target'"),
        ("advbench", {"prompt": "Do harm"}, "harmful_behaviors, row 1"),
    ],
)
def test_other_columns_are_named_with_their_place(hub, task, row, message):
    hub(row)
    with pytest.raises(DataError, match=message):
        load_task(task)


def test_without_a_network_the_mend_is_a_folder(monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("Name or service not known\nmore")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(DownloadError) as caught:
        load_task("taia_mmlu")
    assert "cais/mmlu" in caught.value.problem
    assert "Name or service not known" in caught.value.problem
    assert "--data-dir" in caught.value.mend
    with pytest.raises(DataError, match=r"(?s)on the hub in no form.*medqa_zh_test\.jsonl"):
        load_task("taia_mmedbench_zh")
