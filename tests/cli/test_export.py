"""`taia export`: what it prints, and how it ends."""

import json

import pytest

from cli_runner import inside
from taia.errors import RunError
from tiny_adapters import save_pair


@pytest.fixture
def adapter(tmp_path):
    return str(save_pair(tmp_path, "llama")[1])


def test_it_says_what_it_wrote_how_it_was_checked_and_what_comes_next(adapter, tmp_path):
    out = str(tmp_path / "out")
    done = inside("export", adapter, "--to", "vllm", "-o", out)
    assert "16 of 16 greedy tokens are the source's" in done.stdout
    assert "vllm serve" in done.stdout.splitlines()[-1]
    assert "exists already" in inside("export", adapter, "--to", "vllm", "-o", out, code=2).stderr
    told = json.loads(
        inside("export", adapter, "--to", "gguf", "-o", out, "--overwrite", "--json").stdout
    )
    assert (told["target"], told["files"]) == ("gguf", ["adapter.gguf"])
    assert told["checks"][0]["passed"] is True
    again = inside("export", adapter, "--to", "gguf", "-o", out, "--overwrite", "--no-verify")
    assert "Nothing was checked" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["/nowhere", "--to", "vllm"], "/nowhere"),
        (["{base}/model.safetensors", "--to", "vllm"], "is a file"),
        (["{base}", "--to", "vllm", "--merge"], "no adapter to merge"),
        (["{adapter}", "--to", "mergekit"], "two whole checkpoints"),
        (["{adapter}", "--to", "gguf", "--base", "/nowhere"], "/nowhere"),
        (["{adapter}", "--to", "vllm", "--output", "{base}/inside"], "lies in an input"),
        (["{adapter}", "--to", "onnx"], "onnx"),
        *(
            ([source, "--to", target, *flags], complaint)
            for target in ("transformers", "vllm", "gguf", "ollama")
            for source, flags, complaint in [
                ("{base}", ["--base", "{base}"], "--base is of no use"),
                ("{base}", ["--base", "/nowhere"], "--base is of no use"),
                ("{base}", ["--merge"], "no adapter to merge"),
                ("{base}", ["--base-gguf", "{gguf}"], "--base-gguf is of no use"),
                ("{base}", ["--declare", "*.glue=mlp"], "--declare is of no use"),
                ("{adapter}", ["--declare", "*.glue=mlp"], "--declare is of no use"),
                ("{adapter}", ["--merge", "--base-gguf", "{gguf}"], "--base-gguf is of no use"),
                ("{adapter}", ["--outtype", "f16"], "--outtype is of no use"),
            ]
        ),
        *(
            ([source, "--to", target, *flags], f"{flags[-2]} is of no use --to {target}")
            for target in ("transformers", "vllm")
            for source, flags in [
                ("{base}", ["--outtype", "auto"]),
                ("{adapter}", ["--merge", "--outtype", "f16"]),
                ("{adapter}", ["--base-gguf", "{gguf}"]),
            ]
        ),
        (["{adapter}", "--to", "transformers", "--no-verify", "--base", "{base}"], "--base is of"),
        (["{base}", "--to", "mergekit", "--outtype", "f16"], "--outtype is of no use"),
        (["{base}", "--to", "mergekit", "--base-gguf", "{gguf}"], "--base-gguf is of no use"),
        (["{base}", "--to", "mergekit", "--declare", "*.glue=mlp"], "--declare is of no use"),
    ],
)
def test_bad_input_ends_with_2_and_nothing_written(adapter, tmp_path, arguments, complaint):
    (tmp_path / "base.gguf").write_bytes(b"GGUF")
    places = {"base": str(tmp_path / "base"), "adapter": adapter, "gguf": f"{tmp_path}/base.gguf"}
    arguments = [argument.format(**places) for argument in arguments]
    if "--output" not in arguments:
        arguments += ["--output", str(tmp_path / "out")]
    before = sorted(tmp_path.rglob("*"))
    refused = inside("export", *arguments, code=2)
    assert complaint in refused.stderr
    assert "Traceback" not in refused.stderr
    assert refused.stdout == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_a_failed_check_ends_with_1(adapter, tmp_path, monkeypatch):
    from taia.export import to_transformers
    from taia.export.job import Check

    monkeypatch.setattr(to_transformers, "verify", lambda *_: (Check("They differ.", False),))
    failed = inside("export", adapter, "--to", "transformers", "-o", str(tmp_path / "out"), code=1)
    assert "They differ." in failed.stderr
    assert not (tmp_path / "out").exists()
    assert RunError.exit_code == 1
