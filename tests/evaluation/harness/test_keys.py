"""A result's key: the same in every process, another where what the score depends on is another."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("lm_eval", reason="needs taia[eval]")

import taia
import tiny_models
import tiny_tasks
from imports import importable
from taia.evaluation.run import evaluate
from taia.evaluation.scores.results import read_results, read_run
from taia.evaluation.settings import Settings

TASK = """task: own
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/test.json}}}}
test_split: test
output_type: generate_until
doc_to_text: !function asked.text
doc_to_target: "{{{{choices[answer]}}}}"
generation_kwargs: {{until: ["e"], max_gen_toks: 4}}
num_fewshot: 1
fewshot_config: {{sampler: first_n, samples: !function asked.shots}}
filter_list:
  - name: kept
    filter: [{{function: custom, filter_fn: !function read.first}}]
metric_list:
  - {{metric: good, aggregation: !function read.share, higher_is_better: true}}
process_results: !function read.results
metadata: {{version: 1, hint: 1}}
"""
FILES = {
    "asked.py": """
def text(doc):
    return f"Q: {doc['question']} A:"

def shots():
    return [{"question": "Why?", "choices": ["so"], "answer": 0}]
""",
    "read.py": """
from helper import is_good

def first(resps, docs):
    return [row[0] for row in resps]

def results(doc, found):
    return {"good": is_good(found[0])}

def share(values):
    return sum(values) / len(values)
""",
    "helper.py": "import deeper\n\ndef is_good(text):\n    return deeper.GOOD in text\n",
    "deeper.py": "GOOD = 'a'\n",
    "unused.py": "GOOD = 'b'\n",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_models.save_llama(tmp_path_factory.mktemp("base"))


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "tasks"
    made.mkdir()
    tiny_tasks.write_rows(made, tiny_tasks.ROWS)
    for name, text in {**FILES, "own.yaml": TASK.format(folder=made)}.items():
        (made / name).write_text(text)
    with importable(made):
        yield made


def key(base, folder, run):
    evaluate(
        base, tasks=["own"], modes="base", output=run, include_path=[folder],
        settings=Settings(limit=2),
    )  # fmt: skip
    (result,) = read_results(run)
    return result.key


def rewrite(file, text):
    """As long after the last time that Python, which looks at seconds, compiles it anew."""
    later = file.stat().st_mtime + 2
    file.write_text(text)
    os.utime(file, (later, later))


def test_a_key_is_the_same_in_every_process(base, folder, tmp_path):
    """With functions wherever lm-evaluation-harness takes them, nested ones too."""
    here = key(base, folder, tmp_path / "run")
    code = f"""
import sys
from pathlib import Path
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(taia.__file__).parents[1])!r}]
sys.path[:0] = [{str(folder)!r}, {str(Path(tiny_tasks.__file__).parent)!r}]
from test_keys import key
print(key(Path({str(base)!r}), Path({str(folder)!r}), Path({str(tmp_path / "other")!r})))
"""
    there = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "77"},
    )
    assert there.stdout.split()[-1] == here


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("deeper.py", "'a'", "'b'"),
        ("helper.py", "in text", "not in text"),
        ("read.py", "row[0]", "row[-1]"),
        ("asked.py", "so", "no"),
        ("own.yaml", "hint: 1", "hint: 2"),
        ("test.json", "a cat", "a cow"),
    ],
)
def test_what_the_score_depends_on_is_in_the_key(base, folder, tmp_path, file, old, new):
    before = key(base, folder, tmp_path / "run")
    (folder / "unused.py").write_text("GOOD = 'c'\n")
    assert key(base, folder, tmp_path / "run") == before
    text = (folder / file).read_text()
    assert old in text
    rewrite(folder / file, text.replace(old, new))
    assert key(base, folder, tmp_path / "run") != before
    assert read_run(tmp_path / "run")["aside"] == [("base", "own")], "kept, as it cost work"
    rewrite(folder / file, text)
    assert key(base, folder, tmp_path / "run") == before
