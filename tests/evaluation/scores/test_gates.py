"""Conditions on scores: what they say, and that a bad one is refused before any work."""

from dataclasses import replace
from functools import partial

import pytest

from eval_runs import group
from taia.errors import InputError
from taia.evaluation.scores.gates import Kind, check_means, read_gate, score, turned
from taia.evaluation.scores.groups import Group
from taia.evaluation.scores.results import Sample, TaskResult
from taia.evaluation.scores.summary import Summary

MODES = ("base", "taia", "all - 0.5*mlp", "v1.5")
TASKS = ("math", "arc", "all - 0.5")
SCORES = {
    ("base", None): 0.5,
    ("taia", None): 0.6,
    ("all - 0.5*mlp", None): 0.4,
    ("v1.5", None): 0.3,
    ("base", "math"): 0.2,
    ("taia", "math"): 0.18,
    ("v1.5", "arc"): 0.9,
}


def is_met(text: str) -> bool:
    gate = read_gate(text, MODES, TASKS)
    return gate.failure(lambda mode, task: SCORES[mode, task]) is None


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("taia >= base", True),
        ("base >= taia", False),
        ("taia>=base+0.1", True),
        ("taia > base + 0.1", False),
        ("taia.math >= base.math - 0.02", True),
        ("taia.math >= base.math - 0.01", False),
        ("taia.math >= base", False),
        ("taia > 0.5", True),
        ("taia >= .7", False),
        ("0.7 > taia", True),
        ("all - 0.5*mlp >= base - 0.1", True),
        ("all - 0.5*mlp >= base - 0.05", False),
        ("v1.5.arc >= 0.9", True),
        ("v1.5 - 0.1 >= 0.2", True),
        ("base >= base", True),
        ("base > base", False),
        ("taia.math <= 0.18", True),
        ("taia.math < 0.18", False),
        ("taia.math <= base.math - 0.02", True),
        ("taia.math <= base.math - 0.03", False),
        ("base < taia", True),
        ("taia<base", False),
        ("0.2<=base.math", True),
        ("base <= base", True),
        ("base < base", False),
        ("all - 0.5*mlp < base - 0.05", True),
    ],
)
def test_what_it_says(text, met):
    assert is_met(text) == met


@pytest.mark.parametrize(
    "text",
    [
        "",
        "taia",
        "taia >=",
        ">= base",
        "taia = base",
        "taia >= base >= base",
        "0.1 <= taia <= 0.9",
        "taia <> base",
        "taia =< base",
        "<= base",
        "taia <",
        "taia >= tuned",
        "taia.svamp >= base",
        "taia >= base * 2",
        "taia >= base - mlp",
        "taia => base",
        "lost(taia.math) <= 0.1",
        "lost(taia.math, tuned) <= 0.1",
        "lost(taia.svamp, base) <= 0.1",
        "lost taia.math, base <= 0.1",
        "lost(taia.math, base, base) <= 0.1",
        "turned(taia.math, base) <= 0.1",
        "lost(, base) <= 0.1",
        "lost(taia base) <= 0.1",
    ],
)
def test_a_bad_one_is_refused(text):
    with pytest.raises(InputError) as told:
        read_gate(text, MODES, TASKS)
    assert repr(text) in told.value.problem


@pytest.mark.parametrize(
    ("side", "written"),
    [
        ("lost(taia.math)", "lost(taia.math, OTHER)"),
        ("gained( v1.5.arc )", "gained(v1.5.arc, OTHER)"),
        ("lost(taia) + 0.1", "lost(taia, OTHER)"),
    ],
)
@pytest.mark.parametrize("tasks", [TASKS, None])
def test_turned_answers_need_a_mode_to_have_turned_against(side, written, tasks):
    with pytest.raises(InputError) as told:
        read_gate(f"0.05 >= {side}", MODES, tasks)
    assert repr(side) in told.value.problem
    assert "not evaluated" not in told.value.problem
    assert written in told.value.mend
    assert "base, taia" in told.value.mend


def test_the_failure_tells_both_sides():
    gate = read_gate("taia >= base + 0.25", MODES, TASKS)
    told = gate.failure(lambda mode, task: SCORES[mode, task])
    assert told == "'taia >= base + 0.25' is not met: 0.6000 against 0.7500"


def result(task: str, rights: list[int], metric: str = "acc") -> TaskResult:
    samples = tuple(Sample(str(i), float(right)) for i, right in enumerate(rights))
    better = metric != "asr"
    return TaskResult("taia", "t", task, metric, better, samples, {}, "p", "1", "k", {}, 0.0)


def test_a_score_is_what_the_table_shows():
    results = [result("a", [1, 1, 1, 0]), result("b", [0, 1]), result("c", [1, 0, 0, 0, 0, 0])]
    results.append(result("advbench", [1, 1], "asr"))
    apart = Summary.of(results, {})
    assert score(apart, "taia", "a") == 0.75
    assert score(apart, "taia", None) == pytest.approx((3 / 4 + 1 / 2 + 1 / 6) / 3)
    grouped = Summary.of(results, {"groups": {"g": group(["b", "c"])}})
    assert score(grouped, "taia", "g") == 2 / 8
    assert score(grouped, "taia", "c") == pytest.approx(1 / 6)
    assert score(grouped, "taia", None) == pytest.approx((3 / 4 + 2 / 8) / 2)


def test_the_average_of_what_is_not_averaged_is_a_mean():
    apart = [result("a", [1, 0]), result("b", [1, 1], "f1")]
    mixed = Summary.of(apart, {"groups": {"g": group(["a", "b"])}})
    assert score(mixed, "taia", "g") == 0.75
    own = [replace(one, metrics={"acc,none": 0.25}) for one in apart]
    alike = group(["a", "b"], by_size=False)
    assert score(Summary.of(own, {"groups": {"g": alike}}), "taia", "g") == 0.25
    only = Summary.of([result("a", [1, 0])], {})
    assert score(only, "taia", None) == 0.5
    unsafe = Summary.of([result("advbench", [1, 1, 0, 0], "asr")], {})
    assert score(unsafe, "taia", None) == 0.5


#: Mode → right answers of ten: of `a` tuned loses three and gains one.
RIGHT = {
    "base": {"a": [1, 1, 1, 1, 1, 0, 0, 0, 0, 0], "b": [1, 0]},
    "tuned": {"a": [0, 0, 0, 1, 1, 1, 0, 0, 0, 0], "b": [0, 0]},
}
#: Harmful prompts answered: 1 is what is not wanted.
ANSWERED = {"base": [0, 0, 0, 1], "tuned": [1, 1, 0, 0]}


def turning() -> Summary:
    made = [
        replace(result(task, rights), mode=mode, selection=mode)
        for mode, tasks in RIGHT.items()
        for task, rights in tasks.items()
    ]
    made += [
        replace(result("advbench", counts, "asr"), mode=mode, selection=mode)
        for mode, counts in ANSWERED.items()
    ]
    made += [
        replace(result("loss", [1, 2], "nats"), mode=m, selection=m, higher_is_better=False)
        for m in RIGHT
    ]
    return Summary.of(made, {"groups": {"all": group(["a", "b"], by_size=None)}})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("lost(tuned.a, base) <= 0", 0.3),
        ("gained(tuned.a, base) <= 0", 0.1),
        ("lost( base.a ,tuned ) <= 0", 0.1),
        ("lost(tuned.a, base) - 0.1 <= 0", 0.2),
        ("lost(tuned.b, base) <= 0", 0.5),
        ("lost(tuned.all, base) <= 0", 4 / 12),  # items count, not tasks
        ("lost(tuned, base) <= 0", 4 / 12),  # and those about safety do not
        ("gained(tuned, base) <= 0", 1 / 12),
        # Where lower is better, what counts is what is lost: two refusals of four.
        ("lost(tuned.advbench, base) <= 0", 0.5),
        ("gained(tuned.advbench, base) <= 0", 0.25),
        ("lost(base.a, base) + 0.01 <= 0", None),
    ],
)
def test_what_turned_is_a_share_of_the_items(text, value):
    said = turning()
    gate = read_gate(text, ["base", "tuned"], ["a", "b", "all", "advbench"])
    how = partial(score, said), partial(turned, said)
    if value is None:  # a mode and itself are not compared
        with pytest.raises(InputError):
            gate.failure(*how)
    else:
        assert gate.left.value(*how) == pytest.approx(value)
        assert gate.failure(*how) == f"{text!r} is not met: {value:.4f} against 0.0000"


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("taia.math >= base.math - 0.02", ("base", "math", -0.02)),
        ("taia.math <= base.math + .1", ("base", "math", 0.1)),
        ("taia.math >= v1.5.arc-easy - 3", ("v1.5", "arc-easy", -3.0)),
        ("0 <= gained(taia.math, base) - 0.1", ("taia", "math", -0.1)),
        ("0 <= lost(all - 0.5*mlp.math, v1.5) + 0.1", ("all - 0.5*mlp", "math", 0.1)),
    ],
)
def test_a_sum_is_one_also_where_no_names_of_tasks_are_known_yet(text, right):
    side = read_gate(text, MODES).right
    assert (side.mode, side.task, side.offset) == right


def test_what_turned_between_selections_with_commas_is_read():
    modes = ["base", "attention[0,1]", "mlp[2,3] - 0.5*q_proj"]
    gate = read_gate("lost(mlp[2,3] - 0.5*q_proj.math, attention[0,1]) <= 0.02", modes, ["math"])
    assert (gate.left.mode, gate.left.task) == (modes[2], "math")
    assert (gate.left.way, gate.left.other, gate.left.offset) == ("lost", modes[1], 0.0)


@pytest.mark.parametrize(("task", "other"), [("loss", "base"), ("a", "absent"), (None, "absent")])
def test_what_is_not_right_or_wrong_in_both_does_not_turn(task, other):
    with pytest.raises(InputError) as told:
        turned(turning(), "lost", "tuned", task, other)
    assert f"lost against {other}" in told.value.problem
    assert task is None or task in told.value.problem


ACC, F1 = Kind("acc", True, True), Kind("f1", True, True)
ASR, LOSS = Kind("asr", True, False), Kind("bits_per_byte", False, False)
MIXED = {"follow": ACC, "speak": LOSS, "help": ASR}
LIST = {"general": Group("general", tuple(MIXED), tuple(MIXED))}


@pytest.mark.parametrize(
    ("text", "kinds", "named"),
    [
        ("taia.general >= base.general", MIXED, ["follow by acc", "speak by bits_per_byte"]),
        ("taia >= base", MIXED, ["follow by acc", "help by asr"]),
        ("0.5 <= taia", {"speak": LOSS, "help": ASR}, ["speak by bits_per_byte"]),
        ("lost(taia.speak, base) <= 0.1", MIXED, ["speak (bits_per_byte)"]),
        ("lost(taia.general, base) <= 0.1", MIXED, ["speak (bits_per_byte)"]),
        ("lost(taia, base) <= 0.1", {"speak": LOSS}, ["speak (bits_per_byte)"]),
    ],
)
def test_a_mean_of_unlike_things_is_refused_before_any_work_by_their_names(text, kinds, named):
    gate = read_gate(text, ["base", "taia"])
    groups = {} if "general" not in text else LIST
    with pytest.raises(InputError) as told:
        check_means([gate], kinds, groups)
    assert repr(text) in told.value.problem
    assert all(name in told.value.problem for name in named)


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("taia >= base", {"a": ACC, "b": F1, "loss": LOSS, "advbench": ASR}),
        ("taia >= base", {"loss": LOSS}),
        ("taia >= base", {"advbench": ASR, "other": ASR}),
        ("taia.follow >= base.speak", MIXED),
        ("lost(taia.help, base) <= gained(taia, base) + 0.1", MIXED),
        ("0.1 < 0.2", MIXED),
    ],
)
def test_a_mean_of_like_things_is_not(text, kinds):
    check_means([read_gate(text, ["base", "taia"])], kinds, {})


def test_a_group_with_a_score_of_its_own_needs_no_mean():
    own = Group("g", ("a", "b"), ("a", "b"), metrics=(object(),))
    check_means([read_gate("taia.g >= 0", ["taia"])], {"a": ACC, "b": LOSS}, {"g": own})


def test_a_mean_of_unlike_scores_is_refused_when_it_is_asked_for():
    said = Summary.of(
        [result("a", [1, 0]), result("advbench", [1, 1], "asr")],
        {"groups": {"g": group(["a", "advbench"], by_size=None)}},
    )
    for task in (None, "g"):
        with pytest.raises(InputError, match="a by acc and advbench by asr"):
            score(said, "taia", task)
