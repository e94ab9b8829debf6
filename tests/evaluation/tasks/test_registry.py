"""Small files in each data set's layout, what becomes of them, and what is refused."""

import json
import re
from pathlib import Path

import pytest

from taia.errors import DataError, InputError
from taia.evaluation.tasks.answers import match
from taia.evaluation.tasks.registry import find, load_task, own_tasks

DOCS = (Path(__file__).parents[3] / "docs" / "tasks.md").read_text("utf-8")
FORMAT = "Please format the final answer at the end of the response as: The answer is {answer}."
LETTER = "Please answer with option letter directly, do not output other infomation."
ZH = "请用选项的字母直接回答，不要输出其他信息："

MATH = {"problem": "What is $1+1$?", "type": "Algebra", "solution": "No \\boxed{1} but \\boxed{2}."}
CSQA = {
    "id": "x1",
    "question": "Where?",
    "choices": {"label": ["A", "B", "C"], "text": ["here", "there", "nowhere"]},
    "answerKey": "B",
}
SVAMP = {"Body": "Ann has 2 pears", "Question": "How many?", "Answer": 2.0, "Type": "Addition"}
MEDQA = {"question": "Which?", "options": {"B": "yes", "A": "no"}, "answer_idx": "B"}
MMLU = {"question": "Which?", "choices": ["p", "q", "r"], "answer": 2, "type": "physics"}
BLOCK = "\n{}\nThe context.\nThe question?\n{}\n"
ORDERED = "A.one\nB. two\nC．three\nD three and A.half"


def write(folder, name, *rows):
    path = folder / find(name).file
    path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    return folder


def write_bbh(folder, **subtasks):
    (folder / "bbh").mkdir()
    for name, examples in subtasks.items():
        (folder / "bbh" / f"{name}.json").write_text(json.dumps({"examples": examples}))
    return folder


@pytest.mark.parametrize(
    ("name", "row", "prompt", "kind", "gold", "options"),
    [
        ("taia_math", MATH, f"What is $1+1$?\n\n{FORMAT}", "math", "2", ()),
        ("taia_csqa", CSQA, "Where?\nA. here\nB. there\nC. nowhere\n\nLet's think step by step. "
         + FORMAT, "option", "B", ("here", "there", "nowhere")),
        ("taia_svamp", SVAMP, f"Ann has 2 pears. How many?\n\n{FORMAT}", "number", "2.0", ()),
        ("taia_svamp", SVAMP | {"Body": "Now 2."}, f"Now 2. How many?\n\n{FORMAT}", "number", "2.0",
         ()),
        ("taia_mmedbench", MEDQA, f"Which?\nA. no\nB. yes\n\n{LETTER}", "option", "B",
         ("no", "yes")),
        ("taia_mmedbench_zh", MEDQA, f"Which?\nA. no\nB. yes\n\n{ZH}", "option", "B",
         ("no", "yes")),
        ("taia_mmlu", MMLU, f"Which?\nA. p\nB. q\nC. r\n\n{LETTER}", "option", "C",
         ("p", "q", "r")),
    ],
)  # fmt: skip
def test_a_row_becomes_an_item(tmp_path, name, row, prompt, kind, gold, options):
    (item,) = load_task(name, write(tmp_path, name, row))
    assert (item.task, item.prompt, item.kind, item.gold, item.options) == (
        name, prompt, kind, gold, options,
    )  # fmt: skip
    assert item.solution == (MATH["solution"] if name == "taia_math" else "")
    assert item.group == row.get("type", row.get("Type", ""))


@pytest.mark.parametrize(("name", "instruction"), [("taia_logiqa", LETTER), ("taia_logiqa_zh", ZH)])
def test_logiqas_blocks(tmp_path, name, instruction):
    shuffled = "A. one\nC. three\nB. two\nD. four"
    unlabelled = "A.one\nStorehouse B.3\nC.three\nD.four"
    chinese = "A．one\nB。two\nC．three\nD。four"
    blocks = (ORDERED, shuffled, unlabelled, chinese)
    text = "".join(BLOCK.format("bcda"[i], options) for i, options in enumerate(blocks))
    (tmp_path / find(name).file).write_text(text, "utf-8")
    first, second, third, fourth = load_task(name, tmp_path)
    assert first.prompt == (
        "The context.\nThe question?\nA. one\nB. two\nC. three\nD. three and A.half\n\n"
        + instruction
    )
    assert second.options == fourth.options == ("one", "two", "three", "four")
    assert third.options == ("one", "Storehouse B.3", "three", "four")
    assert [item.gold for item in (first, second, third)] == ["B", "C", "D"]


def test_bbhs_subtasks_and_kinds(tmp_path):
    lettered = "Which?\nOptions:\n(A) the owl\n(B) the jay"
    write_bbh(
        tmp_path,
        birds=[{"input": lettered, "target": "(B)"}] * 3,
        counting=[{"input": "How many?", "target": "-7"}],
        yes=[{"input": "Well?\nOptions:\n- Yes\n- No", "target": "No"}] * 2,
    )
    items = load_task("taia_bbh", tmp_path)
    assert [(i.id, i.kind, i.group) for i in items] == [
        ("birds-1", "option", "birds"), ("counting-1", "number", "counting"),
        ("yes-1", "text", "yes"), ("birds-2", "option", "birds"), ("yes-2", "text", "yes"),
        ("birds-3", "option", "birds"),
    ]  # fmt: skip
    assert items[0].options == ("the owl", "the jay")
    assert items[0].prompt == f"{lettered}\n\n{FORMAT}"
    assert match.is_right(items[0], "The answer is the jay.")
    assert match.is_right(items[1], "The answer is −7 birds.")
    assert not match.is_right(items[2], "Now.")
    assert load_task("taia_bbh", tmp_path, limit=4) == items[:4]


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("taia_math", MATH | {"solution": "It is 2."}),
        ("taia_math", MATH | {"problem": ""}),
        ("taia_math", []),
        ("taia_csqa", CSQA | {"answerKey": "D"}),
        ("taia_csqa", CSQA | {"choices": {"label": ["A", "C"], "text": ["p", "q"]}}),
        ("taia_csqa", CSQA | {"choices": ["p", "q"]}),
        ("taia_svamp", SVAMP | {"Answer": "2"}),
        ("taia_svamp", SVAMP | {"Answer": True}),
        ("taia_svamp", 3),
        ("taia_mmedbench", MEDQA | {"options": {"A": "p", "C": "q"}}),
        ("taia_mmedbench", MEDQA | {"answer_idx": "C"}),
        ("taia_mmlu", MMLU | {"answer": 3}),
        ("taia_mmlu", MMLU | {"choices": ["p"]}),
        ("taia_mmlu", None),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path, name, bad):
    good = {"taia_math": MATH, "taia_csqa": CSQA, "taia_svamp": SVAMP, "taia_mmedbench": MEDQA,
            "taia_mmlu": MMLU}[name]  # fmt: skip
    with pytest.raises(DataError, match="line 2"):
        load_task(name, write(tmp_path, name, good, bad))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BLOCK.format("a", ORDERED) + BLOCK.format("e", ORDERED), "line 10.*'E'"),
        (BLOCK.format("a", "A.one\nB.two\nC.three"), "line 2: a block of 6 lines"),
        ("\n\n", "no questions"),
    ],
)
def test_bad_blocks_are_named(tmp_path, text, message):
    (tmp_path / "logiqa_en_test.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        load_task("taia_logiqa", tmp_path)


def test_bad_subtasks_are_named(tmp_path):
    with pytest.raises(DataError, match="no JSON file"):
        load_task("taia_bbh", tmp_path)
    write_bbh(tmp_path, birds=[{"input": "Which?", "target": "(B)"}])
    with pytest.raises(DataError, match=r"birds\.json, example 1: there is no option \(B\)"):
        load_task("taia_bbh", tmp_path)
    for content, message in (("{", "not JSON"), ("[]", "examples"), ('{"examples": [1]}', "1")):
        (tmp_path / "bbh" / "birds.json").write_text(content)
        with pytest.raises(DataError, match=message):
            load_task("taia_bbh", tmp_path)


def test_a_part_of_mmlu_is_read_where_there_is_no_more(tmp_path):
    (tmp_path / find("taia_mmlu").part).write_text(json.dumps(MMLU | {"type": "stem"}))
    assert [item.group for item in load_task("taia_mmlu", tmp_path)] == ["stem"]
    write(tmp_path, "taia_mmlu", MMLU)
    assert [item.group for item in load_task("taia_mmlu", tmp_path)] == ["physics"]


PROMPTS = ["Do x", "Do y, with z", 'Say "a"']


@pytest.mark.parametrize(
    "text",
    [
        'Do x\n"Do y, with z"\n"Say ""a"""\n',
        'goal,target\r\nDo x,Sure\r\n"Do y, with z","Sure, y"\r\n"Say ""a""",Sure',
    ],
)
def test_harmful_prompts_are_read_as_csv(tmp_path, text):
    (tmp_path / find("advbench").file).write_text(text, newline="")
    items = load_task("advbench", tmp_path)
    assert [item.prompt for item in items] == PROMPTS
    assert [item.id for item in items] == ["1", "2", "3"]
    assert {(item.gold, item.group) for item in items} == {("", "")}


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "no prompts"), ("goal,target\n", "no prompts"), ("Do x\nDo y, and z\n", "line 2"),
     ("goal,target\nDo x\n", "line 2"), ('Do x\n" "\n', "line 2")],
)  # fmt: skip
def test_what_is_not_a_prompt_a_line_is_refused(tmp_path, text, message):
    (tmp_path / find("advbench").file).write_text(text)
    with pytest.raises(DataError, match=message):
        load_task("advbench", tmp_path)


def test_the_lookalikes_are_part_of_taia_whatever_the_folder(tmp_path):
    items = load_task("lookalikes", tmp_path)
    assert items == load_task("lookalikes") != []
    assert len({item.group for item in items[:6]}) == 6


def test_what_there_is_not_is_refused(tmp_path):
    with pytest.raises(InputError, match="taia_mathematics"):
        load_task("taia_mathematics", tmp_path)
    for name, task in own_tasks().items():
        if not task.is_shipped:
            with pytest.raises(DataError, match="bbh" if name == "taia_bbh" else "cannot be read"):
                load_task(name, tmp_path)
    with pytest.raises(InputError, match="0"):
        load_task("taia_mmlu", write(tmp_path, "taia_mmlu", MMLU), limit=0)


def test_the_documentation_lists_every_task_file_and_instruction():
    files = DOCS.partition("data set on the hub")[0]
    rows = dict(re.findall(r"(?m)^\| `(\w+)` \| (?:`([^`/]+)[`/]|none: part of taia)", files))
    assert rows == {
        name: "" if task.is_shipped else task.file for name, task in own_tasks().items()
    }
    shown = {
        f"taia_{name}": instruction
        for names, instruction in re.findall(r"(?m)^\| ([a-z_, ]+) \| (\S.*[.：]) \|$", DOCS)
        for name in names.split(", ")
    }
    assert shown == {
        name: task.instruction for name, task in own_tasks().items() if task.instruction
    }


def test_the_documentation_lists_every_data_set_on_the_hub():
    shown = re.findall(r"(?m)^\| `(\w+)` \| `([\w./-]+/[\w.-]+(?:@[\w/]+)?)`", DOCS)
    names = {
        name: f"{data.name}@{data.revision}" if data.revision else data.name
        for name, task in own_tasks().items()
        if (data := task.hub)
    }
    assert dict(shown) == names
