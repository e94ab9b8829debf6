"""The same task is the same text in every process, and another one another."""

import functools
import json
import re
import subprocess
import sys
import textwrap
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

import taia
from imports import importable
from taia.evaluation.scores.identity import canonical, source_hash


def loaded(file: Path, name: str):
    spec = spec_from_file_location(file.stem, file)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


#: Python in a file ``task.py`` → ``what`` in it.
VALUES = {
    "a function": "def what(doc):\n    return doc",
    "a lambda": "what = lambda doc: doc",
    "in a dictionary in a list": "def f():\n    pass\nwhat = {'a': [{'filter_fn': f}]}",
    "a partial": "import functools\ndef f(a, b):\n    pass\nwhat = functools.partial(f, b={1, 2})",
    "a class": "class what:\n    def run(self):\n        pass",
    "an object": "class K:\n    def __init__(self):\n        self.a = [self]\nwhat = K()",
    "a method": "class K:\n    def run(self):\n        pass\nwhat = K().run",
    "a cache": "import functools\n@functools.cache\ndef what(a):\n    return a",
    "a set of words": "what = {'one', 'two', 'three', 'four', 'five', 'six'}",
    "a closure": "def f(n):\n    def g():\n        return n\n    return g\nwhat = f({'a', 'b'})",
    "what has no address": "what = [object(), len, 'x'.join, print]",
    "no file": "what = eval(\"lambda doc: doc in {'a', 'b', 'c', 'd'}\")",
}


@pytest.mark.parametrize("kind", VALUES)
def test_a_value_is_the_same_in_every_process(tmp_path, kind):
    (tmp_path / "task.py").write_text(VALUES[kind])
    code = f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        sys.path.insert(0, {str(Path(taia.__file__).parents[1])!r})
        junk = [object() for _ in range(int(sys.argv[1]))]
        from task import what
        from taia.evaluation.scores.identity import canonical
        print(canonical(what))
    """
    said = {
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), seed],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "20000", "333")
    }
    assert len(said) == 1
    assert json.loads(said.pop())


HELPERS = {
    "import helper": "import helper\ndef what():\n    return helper.f()",
    "from helper import": "from helper import f\ndef what():\n    return f()",
    "inside the function": "def what():\n    from helper import f\n    return f()",
    "by another helper": "import middle\ndef what():\n    return middle.g()",
    "by its name": "import importlib\ndef what():\n    importlib.import_module('helper').f()",
    "run from its file": "def what():\n    exec(open('helper.py').read())",
    "of a package beside": "from inner.deep import f\ndef what():\n    return f()",
}
FILES = {
    "helper.py": "def f():\n    return 1",
    "middle.py": "from helper import f\ndef g():\n    return f()",
    "inner/__init__.py": "",
    "inner/deep.py": "from .deeper import f",
    "inner/deeper.py": "def f():\n    return 1",
    "stranger.py": "def f():\n    return 1",
}


@pytest.mark.parametrize("how", HELPERS)
def test_a_function_changes_with_the_helpers_of_its_module(tmp_path, how):
    for name, text in {"task.py": HELPERS[how], **FILES}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with importable(tmp_path):
        what = loaded(tmp_path / "task.py", "what")
        before = canonical({"process_results": what})
        (tmp_path / "stranger.py").write_text("def f():\n    return 2")
        assert canonical({"process_results": what}) == before, "which nothing of it imports"
        changed = "inner/deeper.py" if "package" in how else "helper.py"
        (tmp_path / changed).write_text("def f():\n    return 2")
        assert canonical({"process_results": what}) != before


def test_a_list_of_words_that_a_module_reads_is_part_of_it(tmp_path):
    (tmp_path / "words.txt").write_text("one\n")
    (tmp_path / "task.py").write_text(
        "def what():\n    return open(f'{__file__}/../words.txt')\nW = 'words.txt'"
    )
    before = source_hash(tmp_path / "task.py")
    (tmp_path / "words.txt").write_text("two\n")
    assert source_hash(tmp_path / "task.py") != before


def test_where_a_folder_lies_plays_no_part(tmp_path):
    said = []
    for place in ("here", "there/deeper"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "task.py").write_text("import helper\ndef what():\n    return 1")
        (tmp_path / place / "helper.py").write_text("def f():\n    return 1")
        with importable(tmp_path / place):
            said.append(canonical([loaded(tmp_path / place / "task.py", "what")]))
    assert said[0] == said[1]


def test_modules_that_import_each_other_end(tmp_path):
    (tmp_path / "task.py").write_text("import helper\ndef what():\n    return 1")
    (tmp_path / "helper.py").write_text("import task")
    assert source_hash(tmp_path / "task.py") != source_hash(tmp_path / "helper.py").upper()


def keeps(words):
    def keep(doc):
        return doc in words

    return keep


OTHERS = [
    ({"a": 1}, {"a": 2}),
    ([1, 2], [2, 1]),
    ({"a", "b"}, {"a", "c"}),
    (re.compile("x" * 300 + "y"), re.compile("x" * 300 + "z")),
    (functools.partial(keeps, 1), functools.partial(keeps, 2)),
    (keeps("ab"), keeps("abc")),
    (b"a", b"b"),
    (b"a", "a"),
    (len, sum),
    (1.0, 1.5),
    (eval("lambda: 1"), eval("lambda: 2")),
    (eval("lambda: [1 for _ in 'a']"), eval("lambda: [2 for _ in 'a']")),
    (Path("a"), Path("b")),
]


@pytest.mark.parametrize("pair", OTHERS)
def test_what_differs_is_told_apart(pair):
    one, other = pair
    assert canonical({"x": [one]}) == canonical({"x": [one]})
    assert canonical({"x": [one]}) != canonical({"x": [other]})


def test_the_order_of_a_dictionary_plays_no_part():
    assert canonical({"a": 1, 2: "b"}) == canonical({2: "b", "a": 1})
