"""A task is two files and nothing else: found when they are there, named nowhere but in them."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import taia
from taia.evaluation.tasks import DEFAULT, FOLDER
from taia.evaluation.tasks.registry import known_names, own_tasks, paper_tasks

PACKAGE = Path(taia.__file__).parent

CITIES_PY = """
from taia.evaluation.tasks.rows import read_jsonl
from taia.evaluation.tasks.task import Item, Task, text


def item(task, row):
    return Item(row.id, task, text(row, "asked"), "text", text(row, "capital"))


TASKS = (
    Task("cities", "cities.jsonl", read_jsonl, item, "One word."),
    Task("cities_fr", "cities_fr.jsonl", read_jsonl, item, "Un mot."),
)
"""
CITIES_YAML = """
include: _answers_yaml
task: {name}
dataset_kwargs:
  task: {name}
"""
RUN = """
import json, sys
import lm_eval, taia
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager
from taia.cli.options import complete_tasks
from taia.evaluation.harness.known import check_tasks
from taia.evaluation.tasks import FOLDER
from taia.evaluation.tasks.registry import paper_tasks


class Model(LM):
    def generate_until(self, requests, disable_tqdm=False):
        return ["Oslo" if "Norway" in one.args[0] else "Je ne sais pas" for one in requests]

    def loglikelihood(self, requests, disable_tqdm=False): ...
    def loglikelihood_rolling(self, requests, disable_tqdm=False): ...


check_tasks(["cities", "cities_fr"], [])
manager = TaskManager(include_path=str(FOLDER), include_defaults=False,
                      metadata={"data_dir": sys.argv[1]})
found = lm_eval.evaluate(Model(), manager.load(["cities", "cities_fr"]), bootstrap_iters=0)
print(json.dumps({
    "package": taia.__file__,
    "completed": complete_tasks("taia,cit"),
    "own": paper_tasks(["cities", "nothing"]),
    "scores": {name: found["results"][name]["acc,none"] for name in ("cities", "cities_fr")},
    "asked": [one["doc"]["prompt"] for one in found["samples"]["cities"]],
}))
"""


def test_a_task_is_added_by_two_files_and_its_twin_by_one_more(tmp_path):
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")
    without = shutil.ignore_patterns("__pycache__", "static")
    copy = shutil.copytree(PACKAGE, tmp_path / "src" / "taia", ignore=without)
    folder = copy / FOLDER.relative_to(PACKAGE)
    (folder / "cities.py").write_text(CITIES_PY)
    for name in ("cities", "cities_fr"):
        (folder / f"{name}.yaml").write_text(CITIES_YAML.format(name=name))
    rows = [{"asked": "Capital of Norway?", "capital": "Oslo"},
            {"asked": "Capital of Peru?", "capital": "Lima"}]  # fmt: skip
    (tmp_path / "cities.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "cities_fr.jsonl").write_text(json.dumps(rows[0]))
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert Path(said.pop("package")).is_relative_to(tmp_path)
    assert said == {
        "completed": ["taia,cities", "taia,cities_fr"],
        "own": ["cities"],
        "scores": {"cities": 0.5, "cities_fr": 1.0},
        "asked": ["Capital of Norway?\n\nOne word.", "Capital of Peru?\n\nOne word."],
    }


def contents():
    """What each YAML file of a task or group says of its name, without lm-evaluation-harness."""
    said = {path: path.read_text("utf-8") for path in FOLDER.glob("*.yaml")}
    return {
        path: dict(re.findall(r"(?m)^(task|group): *(\S+)$", text)) for path, text in said.items()
    }


def test_every_task_has_its_two_files_and_every_file_its_task():
    files = contents()
    named = {path.stem for path, said in files.items() if "group" not in said}
    assert named == own_tasks().keys()
    assert all(said.get("group", said.get("task")) == path.stem for path, said in files.items())
    homes = {
        name: [path.stem for path in FOLDER.glob("*.py") if f'"{name}"' in path.read_text("utf-8")]
        for name in own_tasks()
    }
    assert {name: home for name, home in homes.items() if len(home) != 1} == {}
    twins = ("", "_zh", "_quick")
    assert all(name in [f"{home}{twin}" for twin in twins] for name, (home,) in homes.items())


def test_what_a_task_says_of_its_second_stage_is_what_its_yaml_file_does():
    staged = {path.stem for path in FOLDER.glob("*.yaml") if "second_stage:" in path.read_text()}
    assert staged == {name for name, task in own_tasks().items() if task.is_finished}


def test_no_code_names_a_task_but_its_own_module():
    own = {path for path in FOLDER.glob("*.py") if path.with_suffix(".yaml").exists()}
    named = {
        (path.relative_to(PACKAGE), node.lineno, name)
        for path in PACKAGE.rglob("*.py")
        if path not in own
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for name in own_tasks()
        if node.value == name or (name.startswith("taia_") and name in node.value)
    }
    assert named == set()


def test_names_are_expanded_as_their_files_say():
    manager = pytest.importorskip("lm_eval.tasks").TaskManager
    known = manager(include_path=str(FOLDER), include_defaults=False)
    assert set(known_names()) == {*known.all_groups, *known.all_tags, *known.all_subtasks}
    assert paper_tasks(["mmlu", "taia", "taia_svamp"])[:2] == ["taia_math", "taia_bbh"]
    assert len(paper_tasks(["mmlu", "taia", "taia_svamp"])) == 7
    assert paper_tasks(["taia_safety"]) == ["advbench", "lookalikes"]
    assert paper_tasks([DEFAULT]) != []
    assert paper_tasks(["nothing", "mmlu"]) == []
