"""The prompts that taia ships: each can be kept, and none is kept by chance."""

import json
from collections import Counter

import pytest

from instruction_answers import answer_to
from taia.errors import DataError
from taia.evaluation.tasks import instructions
from taia.evaluation.tasks.registry import find, load_task
from taia.evaluation.tasks.rules import keeps, keeps_loosely

ITEMS = load_task("instructions")

GENERIC = [
    "The city lies on a wide river, and its old centre draws many visitors every year. Narrow "
    "streets lead from the harbour to the market square, where farmers sell fruit, cheese and "
    "flowers on Saturdays. In summer, concerts take place in the park, and the cafés stay open "
    "until late. In winter, it is quieter, but the museums are worth a visit.",
    "Sure! Here is what you asked for. There are many things to consider, but the most important "
    "one is to take your time. First, think about what you want to achieve, and then make a plan. "
    "It is often helpful to talk to others, because they may have ideas that you have not thought "
    "of. I hope this helps!",
    "I'm sorry, but as a language model I cannot help with that.",
    "For many years, people have wondered about this.\n\nSome say that it is simple, others that "
    "it is not; both have reasons.\n\nWhatever it may be, nobody should decide in haste.\n\nIt is "
    "late, and tomorrow is another day.\n\nMany thanks, as ever, to all of you.\n\nOne more thing: "
    "mind the step. It is high.\n\nSo, in short, it depends.\n\nThank you.",
    "这个问题很有意思，很多人都想知道答案。首先，我们要了解它的历史；其次，我们要考虑现在的情况，"
    "比如经济、文化和环境。最后，每个人都可以有自己的看法，"
    "因为世界上没有完全相同的两个人，也没有完全相同的两个答案。希望这个回答对您有所帮助。",
]
#: Its language is all that some prompts in other languages ask for.
CHINESE = GENERIC[-1]


def rules(item):
    return json.loads(item.gold)


def test_there_are_two_hundred_different_prompts_of_every_kind():
    assert len({item.id for item in ITEMS}) == len({item.prompt for item in ITEMS}) == 200
    kinds = Counter(rule["rule"] for item in ITEMS for rule in rules(item))
    assert len(kinds) == 29
    assert sum(len(rules(item)) > 1 for item in ITEMS) > 80
    assert len({item.group for item in ITEMS[:20]}) == 20


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.id)
def test_a_prompt_can_be_kept_and_is_not_by_chance(item):
    answer = answer_to(rules(item))
    assert [rule for rule in rules(item) if not keeps(answer, rule)] == [], answer
    for chance in ("", " \n", *GENERIC):
        if chance == CHINESE and rules(item) == [{"rule": "language", "code": "zh"}]:
            continue
        assert not all(keeps_loosely(chance, rule) for rule in rules(item)), chance


def test_what_must_stand_there_is_named_in_the_prompt():
    for item in ITEMS:
        for rule in rules(item):
            given = [rule.get(key) for key in ("phrase", "word", "marker", "mark", "text")]
            given += [one for key in ("phrases", "options", "keys") for one in rule.get(key, ())]
            for text in filter(None, given):
                assert text.casefold() in item.prompt.casefold(), (item.id, text)


def test_an_answer_is_scored_by_prompt_and_by_rule():
    gold = json.dumps([{"rule": "no_commas"}, {"rule": "lowercase"}, {"rule": "title"}])
    doc = {"gold": gold}
    assert instructions.score(doc, ["<<a>> b"]) == {
        "prompt_level_strict_acc": 1.0,
        "inst_level_strict_acc": [True, True, True],
        "prompt_level_loose_acc": 1.0,
        "inst_level_loose_acc": [True, True, True],
    }
    assert instructions.score(doc, ["Sure, here:\n<<a>> b"]) == {
        "prompt_level_strict_acc": 0.0,
        "inst_level_strict_acc": [False, False, True],
        "prompt_level_loose_acc": 1.0,
        "inst_level_loose_acc": [True, True, True],
    }
    assert instructions.share([[True, True, False], [True]]) == 0.75


@pytest.mark.parametrize(
    "bad",
    [
        {"rules": []},
        {"rules": [{"rule": "poems"}]},
        {"rules": [{"rule": "bullets", "at_least": 1}]},
        {"rules": "no_commas"},
        {"prompt": ""},
        {"id": 3},
    ],
)
def test_a_bad_line_is_named(tmp_path, bad):
    task = find("instructions")
    good = {"id": "1", "prompt": "Say it.", "rules": [{"rule": "no_commas"}]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(good) + "\n" + json.dumps(good | bad))
    first, second = task.rows(tmp_path / "rows.jsonl")
    assert task.item("x", first).prompt == "Say it."
    with pytest.raises(DataError, match="line 2"):
        task.item("x", second)
