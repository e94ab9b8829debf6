"""A run's folder: what is reused, what is computed again, what is refused."""

import errno
import json
from dataclasses import replace
from pathlib import Path

import pytest

from taia.errors import DestinationError, OutputError
from taia.evaluation.scores.results import Sample, TaskResult, read_results, read_run, result_path
from taia.evaluation.scores.store import Store

FACTS = {
    "command": "c",
    "base": "b",
    "tuned": "t",
    "modes": {"base": "none", "taia": "all - mlp"},
    "tasks": ["one"],
    "groups": {},
    "asked": ["one"],
    "settings": {"limit": 10, "seed": 1},
    "hashes": {"base": {"m": "1"}, "tuned": {"m": "2"}, "tokenizer": "3"},
    "created": "then",
}


def opened(folder: Path, *, overwrite: bool = False, inputs=(), **facts) -> Store:
    return Store(folder, FACTS | facts, overwrite=overwrite, inputs=list(inputs))


def result(mode="taia", task="one", key="k", task_identity=None) -> TaskResult:
    samples = (Sample("0", 1.0), Sample("1", 0.0, "g", {"other": 0.5}, "prompt", "said", "gold"))
    return TaskResult(
        *(mode, "all - mlp", task, "acc", True, samples, {"acc,none": 0.5}, "taia", "1"),
        *(key, {"task": task_identity}, 1.5),
    )


def test_what_is_put_is_found(tmp_path):
    store = opened(tmp_path / "run")
    store.put(result())
    assert store.find("taia", "one", "k") == result()
    assert opened(tmp_path / "run").find("taia", "one", "k") == result()
    assert read_results(tmp_path / "run") == [result()]


def test_nothing_else_is_found(tmp_path):
    store = opened(tmp_path / "run")
    store.put(result())
    assert store.find("taia", "one", "another key") is None
    assert store.find("base", "one", "k") is None
    assert store.find("taia", "two", "k") is None


def test_names_may_be_selections(tmp_path):
    store = opened(tmp_path / "run")
    odd = result("attention[0:4] + 0.5*mlp/../x", "a/b")
    store.put(odd)
    assert store.find(odd.mode, odd.task, "k") == odd
    assert not [p for p in tmp_path.iterdir() if p.name != "run"]


def test_half_a_result_is_none(tmp_path):
    store = opened(tmp_path / "run")
    store.put(result())
    path = result_path(store.folder, "taia", "one")
    path.write_text(path.read_text()[:100])
    assert store.find("taia", "one", "k") is None
    store.put(result())
    assert store.find("taia", "one", "k") == result()


def test_a_full_disk_leaves_the_result_that_was_there(tmp_path, monkeypatch):
    store = opened(tmp_path / "run")
    store.put(result())

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="disk filled up"):
        store.put(replace(result(), key="new"))
    assert store.find("taia", "one", "k") == result()
    assert [path.name for path in (store.folder / "results" / "taia").iterdir()] == ["one.json"]


def test_more_modes_and_tasks_join(tmp_path):
    opened(tmp_path / "run").put(result())
    more = {
        "modes": {"taif": "mlp"},
        "tasks": ["two"],
        "groups": {"g": ["two"]},
        "asked": ["g"],
        "created": "now",
    }
    opened(tmp_path / "run", **more).begin()
    facts = read_run(tmp_path / "run")
    assert list(facts["modes"]) == ["base", "taia", "taif"]
    assert facts["tasks"] == ["one", "two"]
    assert facts["groups"] == {"g": ["two"]}
    assert facts["asked"] == ["one", "g"]
    assert facts["created"] == "then"
    assert len(read_results(tmp_path / "run")) == 1


OTHERS = {
    "base was b": {"hashes": FACTS["hashes"] | {"base": {"m": "9"}}},
    "tuned was t": {"hashes": FACTS["hashes"] | {"tuned": {"m": "9"}}},
    "tokenizer": {"hashes": FACTS["hashes"] | {"tokenizer": "9"}},
    "limit was 10, now 20": {"settings": {"limit": 20, "seed": 1}},
    "dtype was None, now bfloat16": {"settings": FACTS["settings"] | {"dtype": "bfloat16"}},
    "'taia' was 'all - mlp', now 'attention'": {"modes": {"taia": "attention"}},
}


@pytest.mark.parametrize("why", OTHERS)
def test_another_run_is_refused_or_replaced(tmp_path, why):
    folder = tmp_path / "run"
    opened(folder).put(result(key="older"))
    opened(folder).put(result())
    (folder / "update.json").write_text("{}")
    with pytest.raises(DestinationError) as told:
        opened(folder, **OTHERS[why])
    assert why in told.value.problem
    assert opened(folder).find("taia", "one", "k") == result()
    opened(folder, overwrite=True, **OTHERS[why]).begin()
    assert [path.name for path in folder.rglob("*.json")] == ["run.json"]
    assert not (folder / "update.json").exists()


def test_overwriting_the_same_run_goes_on(tmp_path):
    opened(tmp_path / "run").put(result())
    assert opened(tmp_path / "run", overwrite=True).find("taia", "one", "k") == result()


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 99}', "{}"])
def test_a_broken_run_file_is_refused(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(DestinationError, match=r"run\.json"):
        opened(tmp_path)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_something_else_is_refused(tmp_path, overwrite):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(DestinationError):
        opened(tmp_path, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_model_s_folder_is_refused(tmp_path):
    (tmp_path / "base").mkdir()
    with pytest.raises(DestinationError, match="input"):
        opened(tmp_path / "base" / "run", inputs=[tmp_path / "base"])


OLD, NEW = {"items": "1"}, {"items": "2"}


def test_results_of_a_task_that_changed_are_set_aside(tmp_path):
    store = opened(tmp_path / "run")
    made = [
        result("base", "one", "base old", OLD),
        result("taif", "two", "two", OLD),
        result("taif", "one", "taif old", OLD),
        result("taia", "one", "taia new", NEW),
    ]
    for one in made:
        store.put(one)
    left = {(r.mode, r.task) for r in read_results(tmp_path / "run")}
    assert left == {("taia", "one"), ("taif", "two")}
    assert read_run(tmp_path / "run")["aside"] == [("base", "one"), ("taif", "one")]
    for one in made:
        assert opened(tmp_path / "run").find(one.mode, one.task, one.key) == one


def test_what_was_set_aside_counts_again(tmp_path):
    store = opened(tmp_path / "run")
    old = [result(mode, "one", f"{mode} old", OLD) for mode in ("base", "taia")]
    new = result("taia", "one", "taia new", NEW)
    for one in (*old, new):
        store.put(one)
    for one in old:
        store.take(store.find(one.mode, "one", one.key))
    assert read_results(tmp_path / "run") == old
    assert store.find("taia", "one", "taia new") == new
    assert read_run(tmp_path / "run")["aside"] == [("taia", "one")]
    before = sorted(tmp_path.rglob("*"))
    store.take(store.find("taia", "one", "taia old"))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "changed", [{"key": "other"}, {"schema": 99}, {"samples": "gone"}, {"identity": None}]
)
def test_nothing_that_was_computed_is_ever_overwritten(tmp_path, changed):
    """Whatever lies there, of this taia or of another one."""
    store = opened(tmp_path / "run")
    store.put(result(task_identity=OLD))
    path = result_path(store.folder, "taia", "one")
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    content = path.read_text()
    if "key" in changed or "schema" in changed:
        store.put(replace(result(task_identity=OLD), key="new"))
    else:
        store.put(result("base", task_identity=NEW, key="new"))
    kept = [file for file in tmp_path.rglob("*.json") if file.read_text() == content]
    assert len(kept) == 1


def test_nothing_is_written_before_there_is_a_result(tmp_path):
    store = opened(tmp_path / "run")
    assert store.find("taia", "one", "k") is None
    assert not (tmp_path / "run").exists()
    opened(tmp_path / "run").put(result())
    other = opened(tmp_path / "run", overwrite=True, settings={"limit": 3})
    assert other.find("taia", "one", "k") is None
    assert opened(tmp_path / "run").find("taia", "one", "k") == result()


def read(path: Path) -> dict:
    return json.loads(path.read_text())
