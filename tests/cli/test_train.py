"""`taia train`: what it prints, what it leaves, how it ends."""

import json
import os
import shutil

import pytest
from safetensors.torch import load_file

import forks
import tiny_files
import tiny_models
from cli_runner import inside


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_models.save_llama(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    rows = [{"instruction": f"say {i}", "output": f"no {i}"} for i in range(8)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_flags_config_and_underscores_make_one_recipe(base, data, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"data: {data}\nlora_r: 4\nper_device_train_batch_size: 4\n")
    output = tmp_path / "out"
    done = inside(
        *("train", str(base), "--config", str(recipe), "--output", str(output)),
        *("--lora_alpha", "6", "--no-packing", "--lora-ranks", "mlp=2", "--json"),
    )
    told = json.loads(done.stdout)
    assert told["output"] == str(output)
    assert told["recipe"] | {"lora_r": 4, "lora_alpha": 6.0} == told["recipe"]
    assert told["recipe"]["lora_ranks"] == {"mlp": 2}
    config = json.loads((output / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (4, 6)
    weights = load_file(output / "adapter_model.safetensors")
    assert {t.shape[0] for n, t in weights.items() if "lora_A" in n and ".mlp." in n} == {2}
    assert (output / "losses.svg").read_text().startswith("<svg xmlns=")
    assert "Training (lora) …" in done.stderr


def test_a_preview_marks_what_is_learnt_and_needs_no_output(base, data):
    shown = inside("train", str(base), "--data", str(data), "--preview").stdout
    assert "<|im_start|>assistant\n⟦no " in shown
    assert "<|im_end|>⟧" in shown
    assert shown.count("⟦") == 1


def test_a_dry_run_counts_and_writes_nothing(base, data, tmp_path):
    arguments = ["train", str(base), "--data", str(data), "--dry-run"]
    told = json.loads(inside(*arguments, "--lora-r", "4", "--json").stdout)
    model = tiny_models.llama()
    assert sum(told["parameters"].values()) == sum(p.numel() for p in model.parameters())
    sides = [(32, 32), (32, 16), (32, 16), (32, 32)]
    assert told["trained"] == {
        "attention": 2 * sum(4 * (a + b) for a, b in sides),
        "mlp": 2 * 3 * 4 * (32 + 48),
    }
    assert told["rows"] == 8
    assert told["estimate"]["steps"] == 1
    table = inside(*arguments, "--technique", "full").stdout
    assert "at most" in table
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["{base}", "--output", "{out}"], "--data is missing"),
        (["--data", "{data}", "--output", "{out}"], "MODEL is missing"),
        (["{base}", "--data", "{data}"], "--output is missing"),
        (["/nowhere/model", "--data", "{data}", "--output", "{out}"], "/nowhere/model"),
        (["{base}", "--data", "/nowhere.json", "--output", "{out}"], "/nowhere.json"),
        (["{base}", "--data", "{empty}", "--output", "{out}"], "empty.json"),
        (["{base}", "--data", "{data}", "--output", "{base}"], "is an input"),
        (["{base}", "--data", "{data}", "--output", "{out}", "--train", "mpl"], "did you mean mlp"),
        (
            ["{base}", "--data", "{data}", "--output", "{out}", "--lora-ranks", "4"],
            "SELECTION=VALUE",
        ),
        (["{base}", "--data", "{data}", "--output", "{out}", "--lora-r", "0"], "at least 1"),
        (["--resume"], "--output"),
        (["--resume", "--output", "{out}"], "no run to resume"),
        (["{base}", "--data", "{data}", "--output", "{out}", "--config", "/no.yaml"], "/no.yaml"),
    ],
)
def test_bad_input_ends_with_2_and_two_lines_and_nothing_written(
    base, data, tmp_path, arguments, complaint
):
    (tmp_path / "empty.json").write_text("")
    places = {"base": base, "data": data, "out": tmp_path / "out", "empty": tmp_path / "empty.json"}
    refused = inside("train", *(a.format(**places) for a in arguments), code=2)
    assert complaint in refused.stderr
    assert "taia: " in refused.stderr
    assert "Traceback" not in refused.stderr
    assert refused.stdout == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--data", "{data}", "--config", "{out}/own.yaml"],
        ["--data", "{out}/rows.jsonl"],
        ["--data", "{out}"],
        ["--data", "{data}", "--validation", "{out}/rows.jsonl"],
        [
            *("--data", "{data}", "--regulariser", "ewc", "--regulariser-strength", "1"),
            *("--fisher-data", "{out}/rows.jsonl"),
        ],
    ],
)
def test_what_is_read_is_not_overwritten(base, data, tmp_path, arguments):
    """Somebody keeps the recipe and the rows in the folder of the run that they are of."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "taia_config.json").write_text("{}")  # an earlier run's
    (out / "own.yaml").write_text("lora_r: 4\n")
    (out / "rows.jsonl").write_bytes(data.read_bytes())
    before = tiny_files.tree(out)
    given = [each.format(data=data, out=out) for each in arguments]
    refused = inside("train", str(base), *given, "--output", str(out), "--overwrite", code=2)
    assert "an input" in refused.stderr
    assert tiny_files.tree(out) == before


@pytest.mark.parametrize(
    "name",
    [
        "tokenizer.json",
        "chat_template.jinja",
        "generation_config.json",
        "special_tokens_map.json",
        "additional_chat_templates",
        "LICENSE",
    ],
)
def test_no_link_carries_somebodys_file_into_the_output(base, data, tmp_path, name):
    """What the libraries read is refused where it is a link; what they do not read stays behind."""
    secret = tmp_path / "elsewhere" / name
    (secret if name == "additional_chat_templates" else secret.parent).mkdir(parents=True)
    file = secret / "x.jinja" if secret.is_dir() else secret
    file.write_text('{"secret": "rosebud"}')
    model = shutil.copytree(base, tmp_path / "model")
    (model / name).unlink(missing_ok=True)
    (model / name).symlink_to(secret)
    arguments = ["train", str(model), "--data", str(data), "--max-steps", "1"]
    output = tmp_path / "out"
    read = name != "LICENSE"
    ended = inside(*arguments, "--output", str(output), code=2 if read else 0)
    assert ("is a link that leaves its folder" in ended.stderr) == read
    assert output.exists() != read
    assert not any(b"rosebud" in content for content in tiny_files.tree(output).values())


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_saves_and_resume_needs_only_the_output(base, data, tmp_path):
    output = tmp_path / "out"
    # It interrupts itself at the second step: there is no moment to wait for.
    script = f"""
import os, signal, sys
from taia.training import callbacks
told = callbacks.StepTeller.on_log
def on_log(self, args, state, control, **more):
    told(self, args, state, control, **more)
    if state.global_step == 2:
        os.kill(os.getpid(), signal.SIGINT)
callbacks.StepTeller.on_log = on_log
from taia.cli import main
sys.argv = ["taia", "train", {str(base)!r}, "--data", {str(data)!r}, "--output", {str(output)!r},
            "--per-device-train-batch-size", "1"]
main()
"""
    stopped = forks.run(script)
    assert stopped.returncode == 130, stopped.stderr
    assert "after step 3 of 8" in stopped.stderr
    assert f"taia train --output {output} --resume" in stopped.stderr
    assert not (output / "adapter_config.json").exists()
    refused = inside("train", "--output", str(output), "--resume", "--lora-r", "2", code=2)
    assert "lora_r" in refused.stderr
    done = inside("train", "--output", str(output), "--resume", "--json")
    assert len(json.loads(done.stdout)["steps"]) == 8
    assert (output / "adapter_config.json").exists()


def test_a_run_too_short_to_write_a_loss_down_ends_well(base, data, tmp_path):
    output = tmp_path / "out"
    done = inside(
        *("train", str(base), "--data", str(data), "--output", str(output)),
        *("--max-steps", "1", "--logging-steps", "5"),
    )
    assert "parameters trained in" in done.stdout
    assert (output / "adapter_config.json").exists()
    assert not (output / "losses.svg").exists()


def test_a_dry_run_of_what_is_no_causal_model_is_refused(base, data, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for file in base.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    (other / "config.json").write_text(json.dumps({"model_type": "t5"}))
    refused = inside("train", str(other), "--data", str(data), "--dry-run", code=2)
    assert "no config of a causal language model" in refused.stderr
    assert "Traceback" not in refused.stderr
