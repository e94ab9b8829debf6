"""Names of tasks, told from the text of files: what the index says, without the index."""

import pytest

from taia.errors import InputError
from taia.evaluation.harness.known import check_tasks, data_sets, family


@pytest.mark.parametrize("name", ["arc_easy", "mmlu", "ai2_arc", "taia", "advbench", "taia_safety"])
def test_tasks_groups_and_tags_are_known(name):
    check_tasks([name], [])


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("arc_eazy", "arc_easy"),
        ("ARC_EASY", "arc_easy"),
        ("TAIA_math", "taia_math"),
        ("hellaswg", "hellaswag"),
    ],
)
def test_what_is_unknown_is_refused_with_what_is_near(name, near):
    with pytest.raises(InputError) as told:
        check_tasks(["taia_svamp", name], [])
    assert repr(name) in told.value.problem
    assert near in told.value.mend


def test_a_users_folder_counts(tmp_path):
    (tmp_path / "mine.yaml").write_text("task: mine_own\n")
    check_tasks(["mine_own"], [tmp_path])
    with pytest.raises(InputError, match="no folder of tasks"):
        check_tasks(["mine_own"], [tmp_path / "mine.yaml"])


def test_the_folder_that_defines_a_task_is_enough():
    from lm_eval.tasks import TaskManager

    (folder,) = family(["arc_easy", "arc_challenge"])
    few = TaskManager(include_path=str(folder), include_defaults=False)
    assert {"arc_easy", "arc_challenge"} <= set(few.all_tasks)
    assert family(["ai2_arc"]) is None  # a tag: others may bear it
    assert family(["no_such_task"]) is None


def test_the_data_sets_that_tasks_read():
    assert set(data_sets(["arc_easy"])) == {"allenai/ai2_arc"}
    assert not set(data_sets(["no_such_task"]))
