"""Which files of a model folder are opened, and how much of them."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from taia.checkpoint.compose import compose
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.locate import locate
from taia.checkpoint.reading import copy, is_file, opened, read_bytes, read_json
from taia.errors import CheckpointError
from taia.export.run import export
from tiny_files import adapter, llama, llama_config, tree, write

SECRET = b'{"secret": 1}'
HASH = "ab" + "0" * 62


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "elsewhere.json").write_bytes(SECRET)
    made = tmp_path / "model"
    made.mkdir()
    return made


def put(kind: str, file: Path) -> None:
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(file))
    elif kind == "folder":
        file.mkdir()
    elif kind == "endless device":
        file.symlink_to("/dev/zero")
    elif kind == "link out":
        file.symlink_to(file.parent.parent / "elsewhere.json")
    elif kind == "relative link out":
        file.symlink_to("../elsewhere.json")
    elif kind == "link through a link":
        (file.parent / "step").symlink_to("../elsewhere.json")
        file.symlink_to("step")
    elif kind == "link to nowhere":
        file.symlink_to("gone")
    elif kind == "loop":
        file.symlink_to(file.name)


KINDS = ["fifo", "socket", "endless device", "link out", "relative link out"]
KINDS += ["link through a link", "link to nowhere", "loop"]


@pytest.mark.parametrize("kind", [*KINDS, "folder"])
def test_only_plain_files_of_the_folder_are_opened(folder: Path, kind: str) -> None:
    put(kind, folder / "config.json")
    for read in (read_bytes, read_json):
        with pytest.raises(CheckpointError, match=r"config\.json"):
            read(folder / "config.json")
    with pytest.raises(CheckpointError):
        copy(folder / "config.json", folder.parent / "copied")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("side", "name"),
    [
        ("base", "config.json"),
        ("tuned", "config.json"),
        ("tuned", "tokenizer.json"),
        ("tuned", "chat_template.jinja"),
        ("tuned", "vocab.txt"),
        ("base", "LICENSE"),
        ("tuned", "generation_config.json"),
        ("base", "model.safetensors"),
        ("adapter", "adapter_config.json"),
        ("adapter", "adapter_model.safetensors"),
        ("adapter", "README.md"),
        ("adapter", "taia_config.json"),
    ],
)
def test_nothing_of_the_kind_reaches_an_output(
    tmp_path: Path, kind: str, side: str, name: str
) -> None:
    (tmp_path / "elsewhere.json").write_bytes(SECRET)
    for seed, model in enumerate(("base", "tuned")):
        write(tmp_path / model, llama(), seed, config=llama_config())
    adapter(tmp_path / "adapter")
    (tmp_path / side / name).unlink(missing_ok=True)
    put(kind, tmp_path / side / name)
    tuned = "adapter" if side == "adapter" else "tuned"
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")) as caught:
        compose(tmp_path / "base", tmp_path / tuned, tmp_path / "out")
    assert len(str(caught.value).splitlines()) == 2
    assert not (tmp_path / "out").exists()


def test_a_folder_of_templates_may_not_lead_out(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.jinja").write_bytes(SECRET)
    for seed, model in enumerate(("base", "tuned")):
        write(tmp_path / model, llama(), seed, config=llama_config())
        (tmp_path / model / "tokenizer.json").write_text("{}")
    (tmp_path / "tuned" / "additional_chat_templates").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="leaves its folder"):
        compose(tmp_path / "base", tmp_path / "tuned", tmp_path / "out")


def test_folders_beside_the_files_are_passed_over(tmp_path: Path) -> None:
    for seed, model in enumerate(("base", "tuned")):
        write(tmp_path / model, llama(), seed, config=llama_config())
        (tmp_path / model / "LICENSES").mkdir()
        (tmp_path / model / "LICENSE.md").write_text(model)
    compose(tmp_path / "base", tmp_path / "tuned", tmp_path / "out")
    assert (tmp_path / "out" / "LICENSE.md").read_text() == "base"


def test_links_within_the_folder_are_followed(folder: Path) -> None:
    (folder / "real.json").write_bytes(SECRET)
    (folder / "config.json").symlink_to("real.json")
    assert read_json(folder / "config.json") == {"secret": 1}
    (folder.parent / "link").symlink_to(folder)
    assert read_json(folder.parent / "link" / "config.json") == {"secret": 1}


def hub(cache: Path, files: dict[str, bytes], *, shared: bool = False) -> Path:
    """A snapshot as huggingface_hub lays it out; ``shared``: its files in the cache's own store."""
    repository = cache / "models--org--name"
    snapshot = repository / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for number, (name, data) in enumerate(files.items()):
        blob = repository / "blobs" / f"{number:040x}"
        if shared:
            store = cache / "blobs" / "ab"
            store.mkdir(parents=True, exist_ok=True)
            (cache / "blobs" / ".huggingface-shared-blobs").write_text("1")
            (store / f"ab{number:062x}").write_bytes(data)
            blob.symlink_to(f"../../blobs/ab/ab{number:062x}")
        else:
            blob.write_bytes(data)
        (snapshot / name).parent.mkdir(exist_ok=True)
        up = "../" * (2 + name.count("/"))
        (snapshot / name).symlink_to(f"{up}blobs/{number:040x}")
    return snapshot


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("linked", [False, True])
def test_the_hubs_cache_is_read(tmp_path: Path, shared: bool, linked: bool) -> None:
    made = write(tmp_path / "made", llama(), 0, config=llama_config())
    tuned = write(tmp_path / "tuned", llama(), 1, config=llama_config())
    files = {**tree(made), "tokenizer.json": b"{}", "additional_chat_templates/x.jinja": b"x"}
    snapshot = hub(tmp_path / "disk" / "hub", files, shared=shared)
    if linked:  # HF_HOME is itself a link
        (tmp_path / "home").symlink_to(tmp_path / "disk")
        snapshot = tmp_path / "home" / snapshot.relative_to(tmp_path / "disk")
    compose(tuned, snapshot, tmp_path / "out", "tuned")
    out = tree(tmp_path / "out")
    for name in ("model.safetensors", "tokenizer.json", "additional_chat_templates/x.jinja"):
        assert out[name] == files[name], name


def test_an_adapter_in_a_subfolder_of_a_snapshot_is_read(tmp_path: Path) -> None:
    made = tree(adapter(tmp_path / "made"))
    snapshot = hub(tmp_path / "hub", {f"step-5/{name}": data for name, data in made.items()})
    compose(None, snapshot / "step-5", tmp_path / "out")
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()


def test_a_download_whose_files_are_links_into_the_hubs_cache_is_read(tmp_path: Path) -> None:
    snapshot = hub(tmp_path / "hub", {"config.json": SECRET})
    local = tmp_path / "local"
    local.mkdir()
    (local / "config.json").symlink_to((snapshot / "config.json").resolve())
    assert read_json(local / "config.json") == {"secret": 1}


@pytest.mark.parametrize(
    "place", ["blobs/x", "blobs/ab/" + HASH, "other/snapshots/x", "models--a--b/snapshots/1/x"]
)
def test_what_only_looks_like_the_hubs_cache_is_not_followed(folder: Path, place: str) -> None:
    file = folder.parent / "away" / place
    file.parent.mkdir(parents=True)
    file.write_bytes(SECRET)
    (folder / "config.json").symlink_to(file)
    with pytest.raises(CheckpointError, match="leaves its folder"):
        read_json(folder / "config.json")


def test_blobs_that_are_a_link_themselves_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "key").write_bytes(SECRET)
    snapshot = tmp_path / "repo" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    (tmp_path / "repo" / "blobs").symlink_to(tmp_path / "private")
    (snapshot / "config.json").symlink_to("../../blobs/key")
    with pytest.raises(CheckpointError, match="leaves its folder"):
        read_json(snapshot / "config.json")


def test_a_file_that_is_named_itself_may_be_a_link(tmp_path: Path) -> None:
    made = write(tmp_path / "made", llama(), config=llama_config())
    (tmp_path / "m.safetensors").symlink_to(made / "model.safetensors")
    assert list(Checkpoint.open(tmp_path / "m.safetensors").tensors) == list(llama())


@pytest.mark.parametrize("kind", ["fifo", "endless device", "link out"])
def test_a_folder_is_looked_through_before_a_library_reads_it(folder: Path, kind: str) -> None:
    put(kind, folder / "tokenizer_config.json")
    with pytest.raises(CheckpointError, match="tokenizer_config"):
        locate(folder)


def test_what_is_no_file_is_told_from_what_is_not_there(folder: Path) -> None:
    assert not is_file(folder / "config.json")
    (folder / "sub").mkdir()
    assert not is_file(folder / "sub")
    (folder / "config.json").write_bytes(SECRET)
    assert is_file(folder / "config.json")
    with opened(folder / "config.json") as stream:
        assert stream.read() == SECRET


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": NaN}', "NaN"),
        ('{"a": 1, "a": 2}', "occurs twice"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON"),
        ('{"a": ' + "[" * 900 + "]" * 900 + "}", "nested"),
        ('{"a": ' + '{"a": ' * 100 + "1" + "}" * 101, "nested"),
        ('{"a": [' + "0," * 1_000_001 + "0]}", "values"),
        ('{"a": [' + "[]," * 600_000 + "[]]}", "values"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "not a JSON object"),
        ('"x"', "not a JSON object"),
        ("", "not JSON"),
        ("\ufeff{}", "not JSON"),
    ],
)
def test_json_that_cannot_be_used_is_refused(folder: Path, text: str, says: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError) as caught:
        read_json(folder / "config.json")
    assert says in caught.value.problem
    assert len(caught.value.problem) < 500


def test_json_as_some_models_have_it_is_read(folder: Path) -> None:
    (folder / "config.json").write_text('{"time_step_limit": [0.0, Infinity], "a": 1, "a": 1}')
    assert read_json(folder / "config.json") == {"time_step_limit": [0.0, float("inf")], "a": 1}


def test_the_length_is_looked_at_before_a_file_is_read(folder: Path) -> None:
    with (folder / "config.json").open("wb") as out:
        out.truncate(1 << 40)  # no memory holds it
    with pytest.raises(CheckpointError, match="too long"):
        read_json(folder / "config.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", ["llama"]),
        ("model_type", 3),
        ("num_hidden_layers", "x"),
        ("num_hidden_layers", True),
        ("num_hidden_layers", 10**9),
        ("num_attention_heads", 50_000_000),
        ("num_key_value_heads", -1),
        ("num_key_value_heads", {"a": 1}),
        ("num_local_experts", [8, 10**12]),
        ("n_head", 2.5),
        ("encoder_layers", 10**7),
        ("rope_scaling", [1]),
        ("rope_parameters", "linear"),
        ("text_config", [{}]),
        ("text_config", {"num_hidden_layers": "x"}),
        ("vision_config", {"num_heads": 10**9}),
    ],
)
def test_a_config_that_no_model_has_is_refused(tmp_path: Path, key: str, value: object) -> None:
    made = write(tmp_path / "m", llama(), config=llama_config(**{key: value}))
    name = next(iter(value)) if isinstance(value, dict) and "config" in key else key
    for read in (Checkpoint.open, locate):
        with pytest.raises(CheckpointError) as caught:
            read(made)
        assert f"{name}=" in caught.value.problem
        assert "config.json" in caught.value.problem


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_attention_heads", [4, 8]),  # layer by layer
        ("attention_layers", ["global", "local"]),
        ("num_experts", None),
        ("rope_scaling", None),
        ("output_layers", True),
        ("vocab_size_per_layer_input", 262_144),
    ],
)
def test_configs_as_models_have_them_are_read(tmp_path: Path, key: str, value: object) -> None:
    made = write(tmp_path / "m", llama(), config=llama_config(**{key: value}))
    config = Checkpoint.open(made).config
    assert config == json.loads((made / "config.json").read_text())


@pytest.mark.parametrize("name", ["tokenizer.json", "LICENSE", "chat_template.jinja"])
@pytest.mark.parametrize("command", ["checkpoint", "adapter", "merge", "export", "export adapter"])
def test_no_command_copies_what_a_link_leads_to(tmp_path: Path, command: str, name: str) -> None:
    (tmp_path / "elsewhere.json").write_bytes(SECRET)
    for seed, model in enumerate(("base", "tuned")):
        write(tmp_path / model, llama(), seed, config=llama_config())
    adapter(tmp_path / "adapter")
    of_adapter = command.endswith("adapter")
    (tmp_path / ("adapter" if of_adapter else "base") / name).symlink_to("../elsewhere.json")
    places = {place: tmp_path / place for place in ("base", "tuned", "adapter")}
    out = tmp_path / "out"
    run = {
        "checkpoint": lambda: compose(places["base"], places["tuned"], out, "taia"),
        "adapter": lambda: compose(places["base"], places["adapter"], out, "all"),
        "merge": lambda: compose(places["base"], places["adapter"], out, "all", merge=True),
        "export": lambda: export(places["base"], "transformers", out, verify=False),
        "export adapter": lambda: export(places["adapter"], "transformers", out, verify=False),
    }[command]
    with pytest.raises(CheckpointError, match="leaves its folder"):
        run()
    assert not out.exists()


@pytest.mark.parametrize("folder", ["base", "tuned"])
def test_templates_are_not_read_through_links_either(tmp_path: Path, folder: str) -> None:
    (tmp_path / "elsewhere.json").write_bytes(SECRET)
    write(tmp_path / folder, llama(), config=llama_config())
    templates = tmp_path / folder / "additional_chat_templates"
    templates.mkdir()
    (templates / "tool.jinja").write_text("{{ messages }}")
    locate(tmp_path / folder)
    (templates / "x.jinja").symlink_to("../../elsewhere.json")
    with pytest.raises(CheckpointError, match="leaves its folder"):
        locate(tmp_path / folder)
