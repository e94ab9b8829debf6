"""A program of our own: its end is told, and with it all that it began ends."""

import os
import sys
import threading
from dataclasses import replace

import pytest

import fake_vllm
import forks
import tiny_models
import tiny_tasks
from taia.errors import RunError
from taia.evaluation.vllm.child import running

pytestmark = pytest.mark.skipif(os.name != "posix", reason="process groups of POSIX")


def python(*lines):
    return [sys.executable, "-S", "-E", "-c", "\n".join(lines)]


@pytest.mark.parametrize(
    ("printed", "told"),
    [
        (["one", "two", "three", "four"], "two | three | four"),
        (["loading", "ValueError: no room.", "bye", "bye"], "ValueError: no room"),
        (["torch.OutOfMemoryError: CUDA", "RuntimeError: see above", "x"], "CUDA | RuntimeError"),
        ([], "It said: nothing."),
        (["\\udce4 \\x1b[31m" + "x" * 100_000, "last"], "last"),
    ],
)
def test_last_words(tmp_path, printed, told):
    says = ["import sys", "out = sys.stdout.buffer"]
    says += [f"out.write({line!r}.encode('utf-8', 'surrogatepass') + b'\\n')" for line in printed]
    with (
        pytest.raises(RunError, match=r"vLLM ended with code 3\.") as error,
        running(python(*says, "out.flush()", "sys.exit(3)"), tmp_path / "log", 60),
    ):
        raise AssertionError
    assert told in error.value.problem
    assert error.value.exit_code == 1


@pytest.fixture
def fake(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    with fake_vllm.installed(tmp_path / "bin", monkeypatch) as fake:
        yield fake


def test_it_ends_however_the_block_does(fake, tmp_path):
    class Anything(BaseException):
        pass

    children = []

    def use():
        command = ["vllm", "serve", "BASE", "--served-model-name", "base"]
        with running(command, tmp_path / "log", 60) as child:
            children.append(child)
            assert [one["id"] for one in child.ask("/v1/models")["data"]] == ["base"]
            raise Anything

    with pytest.raises(Anything):
        use()
    assert fake.have_ended()
    with pytest.raises(RunError, match="vLLM ended with code -15"):
        children[0].ask("/v1/models")


def test_nobody_else_can_use_it(fake, tmp_path):
    command = ["vllm", "serve", "BASE", "--served-model-name", "base"]
    with running(command, tmp_path / "log", 60) as child:
        assert child.url.startswith("http://127.0.0.1:")
        assert child.key not in " ".join(map(str, child.process.args))
        assert child.key not in repr(child)
        with pytest.raises(RunError, match="HTTP 401"):
            replace(child, key="another").ask("/v1/models")


@pytest.mark.slow
@pytest.mark.parametrize("signal", ["SIGINT", "SIGTERM"])
def test_a_signal_to_the_command_ends_it(fake, tmp_path, signal):
    import signal as signals

    pytest.importorskip("lm_eval", reason="needs taia[eval]")
    tiny_models.save_llama(tmp_path / "base")
    tiny_models.lora(tiny_models.llama()).save_pretrained(tmp_path / "tuned")
    tasks = tiny_tasks.write(tmp_path / "tasks")
    (tmp_path / "temporary").mkdir()
    fake.hold = threading.Event()
    process = forks.start(
        forks.TAIA,
        *(
            "eval",
            tmp_path / "base",
            tmp_path / "tuned",
            "--engine",
            "vllm",
            "--modes",
            "base,taia",
        ),
        *("--tasks", "tiny_words", "--include-path", tasks, "--output", tmp_path / "run"),
        env={**os.environ, "TMPDIR": str(tmp_path / "temporary"), "HF_HUB_OFFLINE": "1"},
        stdout=forks.PIPE,
        stderr=forks.PIPE,
    )
    try:
        assert fake.reached.wait(120)
        process.send_signal(getattr(signals, signal))
        stdout, stderr = process.communicate()
        assert process.wait() == 130, stderr
    finally:
        process.kill()
    assert "Stopped after 0 of 1 tasks; nothing was written." in stderr
    assert "Traceback" not in stdout + stderr
    assert fake.have_ended()
    assert list((tmp_path / "temporary").iterdir()) == []
    assert not (tmp_path / "run").exists()
