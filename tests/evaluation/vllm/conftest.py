"""A tiny base with an adapter, tasks, and runs of them on the stand-in for vLLM."""

import tempfile

import pytest

import fake_vllm
import tiny_models
import tiny_tasks
from taia.evaluation.run import evaluate
from taia.evaluation.settings import Settings, Vllm

#: Short, so that the prompts of the check are.
LENGTH = 512
_GENERATED = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/test.json}}}}
test_split: test
output_type: generate_until
doc_to_text: "Q: {{{{question}}}}\\nA:"
doc_to_target: "{{{{choices[answer]}}}}"
generation_kwargs: {kwargs}
metric_list: [{{metric: exact_match}}]
"""
#: A task that draws, one in which the answer is a letter, and one in two stages.
GENERATED = {
    "tiny_drawn": '{until: ["e"], max_gen_toks: 6, do_sample: true, temperature: 0.7, top_k: 9}',
    "tiny_letter": "{letters: abcd, letter_bias: 15}",
    "tiny_two": "{max_gen_toks: 6, second_stage: {append: true, max_gen_toks: 4}}",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    tiny_models.save_llama(folder / "base", max_position_embeddings=LENGTH)
    uneven = {"rank_pattern": {"q_proj": 9}, "alpha_pattern": {"down_proj": 3}}
    tiny_models.lora(tiny_models.llama(), **uneven).save_pretrained(folder / "tuned")
    tasks = tiny_tasks.write(folder / "tasks")
    for name, kwargs in GENERATED.items():
        text = _GENERATED.format(name=name, folder=tasks, kwargs=kwargs)
        (tasks / f"{name}.yaml").write_text(text)
    return folder


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """The stand-in, after which nothing is left: no process, no temporary folder."""
    for name in ("bin", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("OPENAI_API_KEY", "of another server")
    monkeypatch.setenv("VLLM_API_KEY", "of another vLLM")
    with fake_vllm.installed(tmp_path / "bin", monkeypatch) as fake:
        yield fake
        assert not fake.argv or fake.have_ended()
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.fixture
def run(place, tmp_path):
    def run(output="run", engine=True, tasks="tiny_choice", modes="base,tuned,taia,taif", **more):
        given = {"base": place / "base", "tuned": place / "tuned", "modes": modes}
        given |= {"include_path": [place / "tasks"], "vllm": Vllm() if engine else None}
        given |= {"settings": Settings(limit=2)}
        return evaluate(**{**given, **more}, tasks=tasks.split(","), output=tmp_path / output)

    return run
