"""vLLM's adapters and command; and vLLM itself, where it is installed."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
from pathlib import Path

import pytest
import torch

import tiny_adapters
import tiny_models
from cli_runner import inside
from taia.checkpoint.locate import Located
from taia.errors import AdapterError, DestinationError, InputError
from taia.runtime.switchable import SwitchableModel
from taia.serving import vllm

MODES = {"base": "none", "tuned": "all", "taia": "all - mlp", "half": "attention + 0.5*mlp"}
#: Different scales and ranks in different modules, which vLLM would not see.
UNEVEN = {
    "use_rslora": True,
    "rank_pattern": {"q_proj": 9},
    "alpha_pattern": {"down_proj": 3},
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return tiny_adapters.save_pair(tmp_path_factory.mktemp("pair"), "llama", **UNEVEN)


def test_each_mode_is_an_adapter_with_one_scale(pair, tmp_path):
    served = vllm.write(*map(str, pair), MODES, tmp_path / "out")
    assert served.adapters.keys() == {"tuned", "taia", "half"}
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(
        [*served.adapters, vllm.SCRIPT]
    )
    assert served.rank == 16
    model = SwitchableModel.load(*pair, MODES, device="cpu")
    scores = []
    for mode, folder in served.adapters.items():
        adapted = tiny_adapters.load_adapted(pair[0], folder)
        config = adapted.peft_config["default"]
        assert (config.r, config.lora_alpha, config.use_rslora) == (9, 9, False)
        assert not config.rank_pattern
        assert not config.alpha_pattern
        with model.mode(mode):
            torch.testing.assert_close(
                tiny_adapters.logits(adapted), tiny_adapters.logits(model.model), atol=1e-5, rtol=0
            )
        scores.append(tiny_adapters.logits(adapted))
    assert not torch.allclose(scores[0], scores[1], atol=1e-2)


def test_the_command_serves_them(pair, tmp_path):
    served = vllm.write(*map(str, pair), MODES, tmp_path / "out", flags=["--port", "9"])
    command = served.command(["--tensor-parallel-size", "2"])
    assert command[:5] == ["vllm", "serve", str(pair[0].resolve()), "--served-model-name", "base"]
    assert command[-2:] == ["--tensor-parallel-size", "2"]
    at = command.index("--lora-modules")
    assert command[at + 1 : at + 4] == [f"{m}={f}" for m, f in served.adapters.items()]
    assert command[command.index("--max-loras") + 1] == "3"
    assert command[command.index("--max-lora-rank") + 1] == "16"
    script = (tmp_path / "out" / vllm.SCRIPT).read_text().splitlines()
    assert shlex.split(script[-1])[1:] == served.command(["--port", "9"])


def test_a_revision_of_the_base_is_served_as_it_was_read(pair):
    base = Located("org/base@v2", pair[0], "org/base", "v2", "abc")
    command = vllm.Served(base, ("base",), {}, 8).command()
    assert command[:3] == ["vllm", "serve", "org/base"]
    assert command[command.index("--revision") + 1] == "v2"


def test_the_base_alone_needs_no_adapter(pair, tmp_path):
    served = vllm.write(*map(str, pair), {"plain": "none"}, tmp_path / "out")
    assert served.plain == ("plain",)
    assert "--enable-lora" not in served.command()


def test_an_output_is_replaced_only_when_told_so(pair, tmp_path):
    arguments = (*map(str, pair), MODES, tmp_path / "out")
    vllm.write(*arguments)
    with pytest.raises(DestinationError):
        vllm.write(*arguments)
    vllm.write(*arguments, overwrite=True)


@pytest.mark.parametrize(
    ("modes", "kind"),
    [({"a b": "all"}, InputError), ({"norms": "norm"}, InputError)],
)
def test_what_vllm_cannot_serve_leaves_nothing(pair, tmp_path, modes, kind):
    with pytest.raises(kind):
        vllm.write(*map(str, pair), {**MODES, **modes}, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_dora_is_refused(tmp_path):
    pair = tiny_adapters.save_pair(tmp_path, "llama", use_dora=True)
    with pytest.raises(AdapterError, match="DoRA"):
        vllm.write(*map(str, pair), MODES, tmp_path / "out")


def test_whole_checkpoints_are_refused_with_what_to_do(tmp_path):
    base = tiny_models.save_llama(tmp_path / "base")
    with pytest.raises(AdapterError, match="taia compose"):
        vllm.write(str(base), str(base), MODES, tmp_path / "out")


def serve(pair, *arguments, code=0):
    return inside("serve", *map(str, pair), "--engine", "vllm", *arguments, code=code)


def test_the_command_line_prints(pair, tmp_path, monkeypatch):
    monkeypatch.delenv("TAIA_API_KEY", raising=False)
    said = serve(pair, "--print", "-o", str(tmp_path / "out"), "--port", "9", "--", "--seed", "1")
    command = shlex.split(said.stdout)
    assert command[:2] == ["vllm", "serve"]
    assert command[-6:] == ["--host", "127.0.0.1", "--port", "9", "--seed", "1"]
    assert "--output" in serve(pair, "--print", code=2).stderr


def test_without_vllm_nothing_is_written(pair, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "pip install vllm" in serve(pair, "-o", str(tmp_path / "out"), code=2).stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="a shell script stands in for vLLM")
def test_vllm_is_started_and_its_end_is_ours(pair, tmp_path, monkeypatch):
    program = tmp_path / "bin" / "vllm"
    program.parent.mkdir()
    seen = tmp_path / "seen"
    program.write_text(f'#!/bin/sh\necho "$VLLM_API_KEY" "$@" > {shlex.quote(str(seen))}\nexit 3\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    assert "ended with code 3" in serve(pair, "--api-key", "k", code=1).stderr
    told = shlex.split(seen.read_text())
    assert told[:2] == ["k", "serve"]
    assert "k" not in told[1:]
    adapter = Path(told[told.index("--lora-modules") + 1].partition("=")[2])
    assert not adapter.exists()  # it was there for the while


@pytest.mark.skipif(shutil.which("vllm") is None, reason="vLLM lives in an environment of its own")
def test_vllm_itself_serves_every_mode(tmp_path):
    import subprocess

    import httpx

    base = tiny_models.save_llama(tmp_path / "base", hidden_size=256, num_attention_heads=4)
    adapted = tiny_models.lora(tiny_models.llama(hidden_size=256, num_attention_heads=4))
    adapted.save_pretrained(tmp_path / "adapter")
    served = vllm.write(str(base), str(tmp_path / "adapter"), MODES, tmp_path / "out")
    flags = ["--port", "18765", "--max-model-len", "64", "--dtype", "float32", "--enforce-eager"]
    with subprocess.Popen([vllm.find(), *served.command(flags)[1:]]) as process:
        try:
            with httpx.Client(base_url="http://127.0.0.1:18765", timeout=60) as client:
                while process.poll() is None:
                    try:
                        client.get("/health").raise_for_status()
                        break
                    except httpx.HTTPError:
                        continue
                assert process.poll() is None
                model = SwitchableModel.wrap(adapted, modes=MODES)
                for mode in MODES:
                    asked = {"model": mode, "prompt": [5, 6, 7], "max_tokens": 4}
                    said = client.post("/v1/completions", json={**asked, "temperature": 0})
                    with model.mode(mode), torch.no_grad():
                        expected = model.model.generate(
                            input_ids=torch.tensor([[5, 6, 7]]), max_new_tokens=4, do_sample=False
                        )
                    text = tiny_models.tokenizer().decode(expected[0, 3:], skip_special_tokens=True)
                    assert said.json()["choices"][0]["text"] == text
        finally:
            process.terminate()
