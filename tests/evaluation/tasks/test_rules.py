"""Each rule with answers that keep it, and answers that almost do."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taia.evaluation.tasks.registry import load_task
from taia.evaluation.tasks.rules import RULES, is_rule, keeps, keeps_loosely

TEN = "one two three four five six seven eight nine ten"
#: Rule, its arguments, answers that keep it, answers that almost do.
CASES = [
    ("words", {"at_most": 10}, [TEN, "It's a well-known don't.", "天很蓝。Yes"],
     [TEN + " eleven", "一二三四五六七八九十一"]),
    ("words", {"at_least": 10, "at_most": 12}, [TEN, f"{TEN}, and so"], [TEN[:-4], f"{TEN} a b c"]),
    ("characters", {"at_least": 3, "at_most": 4}, ["天很蓝。", "天，很蓝啊！"],
     ["天蓝。!!", "天空很蓝吗"]),
    ("sentences", {"exactly": 2},
     ["One. Two!", "Dr. Smith came. He left.", "“Who?” “I.”", "No full stop\nand another",
      "一。二？",
      "It costs 3.50 euros. Cheap!", "See J. K. Smith. He wrote it."],
     ["One.", "One. Two. Three.", "One, two", "Mr. Smith came.", "一，二。"]),
    ("sentences", {"at_least": 3}, ["A b. C d. E f.", "Why? So! Yes."], ["A b. C d; e f."]),
    ("paragraphs", {"exactly": 2}, ["One.\n\nTwo.", "One\none.\n \t\nTwo.\n\n"],
     ["One.\nTwo.", "One.\n\nTwo.\n\nThree."]),
    ("lines", {"exactly": 3}, ["a\nb\nc", "a\n\nb\nc\n"], ["a\nb", "a b c", "a\nb\nc\nd"]),
    ("paragraph_starts", {"paragraph": 2, "word": "However"},
     ["A.\n\nHowever, b.", "A.\n\n**however** b.\n\nC."],
     ["However, a.\n\nB.", "A.\nHowever, b.", "A.\n\nBut however.", "A.\n\nHowevers b."]),
    ("includes", {"phrases": ["rope", "not again"]}, ["A Rope: not again!"],
     ["Ropes: not again", "A rope, not at all again", "A rope."]),
    ("includes", {"phrases": ["春天"]}, ["我爱春天。"], ["我爱春。天"]),
    ("excludes", {"phrases": ["cake", "gift"]}, ["Cakes and gifted people", "Nothing"],
     ["CAKE!", "a gift."]),
    ("mentions", {"phrase": "rain", "exactly": 2}, ["Rain, rain!", "rainy rain-rain"],
     ["rain", "rain rain rain", "rain and rainy days"]),
    ("mentions", {"phrase": "and", "at_most": 1}, ["this and that", "sand hand"], ["and and"]),
    ("letter", {"letter": "z", "at_least": 3}, ["Zzz", "pizza, zoo"], ["zz", "pizza"]),
    ("letter", {"letter": "e", "at_most": 0}, ["No such sign"], ["nEver"]),
    ("bullets", {"exactly": 2}, ["- a\n- b", "My list:\n* a\n\n* b", "• a\n  - b"],
     ["- a", "- a\n- b\n- c", "1. a\n2. b", "-a\n-b", "**a**\n**b**", "- \n- b"]),
    ("numbered", {"exactly": 3}, ["1. a\n2. b\n3. c", "So:\n1) a\n2) b\n3) c\n"],
     ["1. a\n2. b", "1. a\n2. b\n2. c", "2. a\n3. b\n4. c", "1. a 2. b 3. c", "1.a\n2.b\n3.c"]),
    ("highlights", {"at_least": 2}, ["*a* and *b c*", "**a** *b*"],
     ["*a*", "* a\n* b", "*a\nb* and *c*", "2 * 3 * 4", "****"]),
    ("sections", {"word": "Part", "exactly": 2}, ["Part 1\na\nPart 2\nb",
      "## PART 1: a\n\n**Part 2**"],
     ["Part 1\na", "Part 1\nPart 3", "Part 1 and Part 2", "Part 1\nPart 2\nPart 3",
      "Part one\nPart two"]),
    ("placeholders", {"at_least": 2}, ["Dear [name], on [date of birth]"],
     ["Dear [name]", "[] []", "[a\nb] [c]", "(name) (date)"]),
    ("postscript", {"marker": "P.S."}, ["Hi.\n\nP.S. Buy milk.", "Hi.\nP.S.: more"],
     ["Hi. P.S. Buy milk.", "Hi.\nP.S.", "P.S. Milk.\n\nBye.", "Hi.\nPS Buy milk."]),
    ("title", {}, ["<<The Sea>>\nIt is blue.", "A <<B>>"], ["<The Sea>", "<< >>", "<<The\nSea>>"]),
    ("json_object", {"keys": ["a", "b"]},
     ['{"a": 1, "b": [2]}', '```json\n{"b": {}, "a": ""}\n```', '```\n{"b": 0, "a": 1}\n```'],
     ['{"a": 1}', '{"a": 1, "b": 2, "c": 3}',
      "{'a': 1, 'b': 2}", '[{"a": 1, "b": 2}]', '{"a": 1, "b": 2',
      'Here: {"a": 1, "b": 2}', '{"a": 1, "b": 2}\nDone.', "[" * 100_000]),
    ("one_of", {"options": ["Yes.", "No."]}, ["Yes.", " No.\n"], ["Yes", "yes.", "Yes. No.",
      "“Yes.”"]),
    ("two_answers", {"mark": "******"}, ["a\n******\nb"],
     ["a", "a\n***\nb", "a\n******\n", "a\n******\na", "a\n******\nb\n******\nc"]),
    ("repeats", {"text": "How many?  Tell me."}, ["How many? Tell me.\nEight.",
      "How many?\nTell me. 8"],
     ["Eight.", "How many? Tell me.", "how many? tell me. 8", "“How many? Tell me.” 8"]),
    ("starts", {"phrase": "To be honest,"}, ["To be honest, no.", "TO BE HONEST, no"],
     ["Well, to be honest, no.", "To be honest no."]),
    ("ends", {"phrase": "The end."}, ["It was. The end.", "the end."], ["The end",
      "The end. Bye."]),
    ("quoted", {}, ['"So."', "“So.”", "「好。」"], ['"So.', "'So.'", 'He said "so"', '""']),
    ("capitals", {}, ["STOP! 3 TIMES", "ÉTÉ"], ["STOp", "123"]),
    ("lowercase", {}, ["stop, it's 3", "été"], ["Stop", "123"]),
    ("capital_words", {"at_least": 2, "at_most": 3}, ["STOP and GO", "A B STOP, GO, I"],
     ["STOP", "A B C D", "A BB CC DD EE"]),
    ("no_commas", {}, ["One; two", "一；二"], ["One, two", "一，二", "一、二"]),
    ("language", {"code": "fr"}, ["Le pont est une construction qui passe sur la rivière."],
     ["The bridge is in the city.", "Die Brücke ist in der Stadt.", "Pont, rivière, ville."]),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "arguments", "kept", "broken"), CASES)
def test_a_rule_is_kept_or_almost(rule, arguments, kept, broken):
    instruction = {"rule": rule, **arguments}
    assert is_rule(instruction)
    assert [answer for answer in kept if not keeps(answer, instruction)] == []
    assert [answer for answer in broken if keeps(answer, instruction)] == []


def test_every_rule_has_cases_and_is_asked_for():
    asked = {rule["rule"] for one in load_task("instructions") for rule in json.loads(one.gold)}
    assert RULES.keys() == {rule for rule, *_ in CASES} == asked


INSTRUCTIONS = st.sampled_from([{"rule": rule, **arguments} for rule, arguments, *_ in CASES])


@given(st.text(), INSTRUCTIONS)
def test_what_is_kept_strictly_is_kept_loosely_whatever_is_written(answer, instruction):
    assert keeps(answer, instruction) <= keeps_loosely(answer, instruction)
    assert not keeps(answer, instruction) or answer.strip()


@given(st.text(" \n\t"), INSTRUCTIONS)
def test_an_empty_answer_keeps_nothing(answer, instruction):
    assert not keeps_loosely(answer, instruction)


@pytest.mark.parametrize(
    "around",
    ["Sure, here it is:\n{}", "{}\nI hope this helps, friend.", "Sure, here:\n{}\nSo, well."],
)
@pytest.mark.parametrize(
    ("answer", "instruction"),
    [
        ('{"a": 1}', {"rule": "json_object", "keys": ["a"]}),
        ("no capitals here", {"rule": "lowercase"}),
        ("Nothing; nothing", {"rule": "no_commas"}),
        ("Yes.", {"rule": "one_of", "options": ["Yes."]}),
    ],
)
def test_a_line_around_an_answer_is_forgiven_by_the_loose_reading_alone(
    around, answer, instruction
):
    assert keeps(answer, instruction)
    assert not keeps(around.format(answer), instruction)
    assert keeps_loosely(around.format(answer), instruction)
    assert not keeps_loosely(f"Oh, A.\nSure, A:\n{answer}\nWell, A.\nSo, A.", instruction)


def test_bold_print_is_forgiven_by_the_loose_reading_alone():
    instruction = {"rule": "one_of", "options": ["Yes."]}
    assert not keeps("**Yes.**", instruction)
    assert keeps_loosely("**Yes.**", instruction)


WORDS = st.lists(st.sampled_from(["sea", "well-known", "don't", "Ärger", "3"]), min_size=1)


@given(WORDS, st.sampled_from([" ", "\n", ", ", " - "]))
def test_words_are_counted_whatever_stands_between(words, between):
    text, count = between.join(words), len(words)
    assert keeps(text, {"rule": "words", "at_least": count, "at_most": count})
    assert not keeps(text, {"rule": "words", "at_least": count + 1})
    assert not keeps(text, {"rule": "words", "at_most": count - 1})


@given(
    st.lists(st.sampled_from(["It rains", "Dr. Lee came", "3.5 is more"]), min_size=1, max_size=9),
    st.sampled_from(". ! ?".split()),
    st.sampled_from([" ", "\n", "\n\n", "  "]),
)
def test_sentences_are_counted_whatever_ends_them(sentences, end, between):
    text = between.join(f"{sentence}{end}" for sentence in sentences)
    assert keeps(text, {"rule": "sentences", "exactly": len(sentences)})
    assert not keeps(text, {"rule": "sentences", "exactly": len(sentences) + 1})


@pytest.mark.parametrize(
    "bad",
    [
        "words",
        {"at_most": 3},
        {"rule": "poems"},
        {"rule": ["words"]},
        {"rule": "words", "most": 3},
        {"rule": "bullets"},
        {"rule": "title", "exactly": 1},
    ],
)
def test_what_is_no_rule_is_told(bad):
    assert not is_rule(bad)
