"""Damaged input gives a correct output or an error that says why; never both, never another."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taia.checkpoint.compose import compose
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.inspection import anatomy_of
from taia.errors import CheckpointError, InputError
from tiny_files import adapter, llama, llama_config, tree, write

NAMES = list(llama())
SHARDS = [NAMES[:5], NAMES[5:12], NAMES[12:]]
INDEX = "model.safetensors.index.json"
SHARD = "model-00002-of-00003.safetensors"
CONFIG = {
    "rope_theta": 10000.0,
    "rope_scaling": {"rope_type": "linear", "factor": 2.0},
    "bos_token_id": 1,
    "eos_token_id": [2, 3],
    "head_dim": 4,
    "torch_dtype": "bfloat16",
    "hidden_act": "silu",
}

few = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``base``, ``tuned`` (both sharded) and ``adapter``."""
    folder = tmp_path_factory.mktemp("inputs")
    for seed, name in enumerate(("base", "tuned")):
        config = llama_config(**CONFIG)
        write(folder / name, llama(), seed, shards=SHARDS, config=config)
        (folder / name / "tokenizer.json").write_text("{}")
    adapter(folder / "adapter")
    return folder


@contextmanager
def spoilt(inputs: Path, side: str, name: str, content: bytes) -> Iterator[Path]:
    """The inputs with another content of one file, in a folder that goes again."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for given_side in ("base", "tuned", "adapter"):
            if given_side == side:
                shutil.copytree(inputs / given_side, folder / given_side)
            else:
                (folder / given_side).symlink_to(inputs / given_side)
        (folder / side / name).write_bytes(content)
        yield folder


def composed(folder: Path, tuned: str = "tuned", **options: Any) -> InputError | None:
    """Compose: the error, or ``None`` and the output is the right one."""
    output = folder / "out"
    base = folder / "base"
    refused = None
    try:
        compose(base, folder / tuned, output, **options)  # the default is TAIA
    except InputError as error:
        refused = error
    if refused is not None:
        assert refused.problem
        assert refused.mend
        assert sorted(path.name for path in folder.iterdir()) == ["adapter", "base", "tuned"]
        return refused
    if tuned == "adapter" and not options:
        kept = entries(output / "adapter_model.safetensors")
        given_ones = entries(folder / "adapter" / "adapter_model.safetensors")
        wanted = {name: value for name, value in given_ones.items() if ".mlp." not in name}
        assert kept == wanted
        return None
    mine, out = entries(base), entries(output)
    assert out.keys() == mine.keys()
    theirs = mine if tuned == "adapter" else entries(folder / tuned)
    for name, (dtype, shape, content) in out.items():
        assert (dtype, shape) == mine[name][:2]
        if tuned == "adapter" and ".self_attn." in name:
            continue
        source = mine if ".mlp." in name else theirs
        if source.get(name, ())[:2] == (dtype, shape):
            assert content == source[name][2], name
    return None


def entries(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    found = {}
    for name, entry in Checkpoint.open(path).tensors.items():
        content = entry.file.read_bytes()[entry.start : entry.stop]
        found[name] = (entry.dtype, entry.shape, content)
    return found


def test_undamaged_they_compose(inputs: Path) -> None:
    for tuned, options in (("tuned", {}), ("adapter", {}), ("adapter", {"merge": True})):
        with spoilt(inputs, "base", "README.md", b"") as folder:
            assert composed(folder, tuned, **options) is None
            assert (folder / "out").is_dir()


FILES = [
    ("base", SHARD, "tuned"),
    ("tuned", SHARD, "tuned"),
    ("tuned", INDEX, "tuned"),
    ("base", "config.json", "tuned"),
    ("tuned", "config.json", "tuned"),
    ("adapter", "adapter_model.safetensors", "adapter"),
    ("adapter", "adapter_config.json", "adapter"),
]


@pytest.mark.parametrize(("side", "name", "tuned"), FILES)
def test_a_truncated_file_is_refused_at_every_length(
    inputs: Path, side: str, name: str, tuned: str
) -> None:
    whole = (inputs / side / name).read_bytes()
    header = int.from_bytes(whole[:8], "little")
    lengths = {0, 1, 7, 8, 9, header + 7, header + 8, header + 9, len(whole) // 2, len(whole) - 1}
    lengths |= set(range(0, len(whole), len(whole) // 12))
    for length in sorted(length for length in lengths if length < len(whole)):
        with spoilt(inputs, side, name, whole[:length]) as folder:
            assert composed(folder, tuned) is not None, length


@pytest.mark.parametrize(("side", "name", "tuned"), FILES)
@few
@given(data=st.data())
def test_flipped_bytes(inputs: Path, side: str, name: str, tuned: str, data: st.DataObject) -> None:
    content = bytearray((inputs / side / name).read_bytes())
    last = len(content) - 1
    if name.endswith(".safetensors"):
        last = 8 + int.from_bytes(content[:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, last))] = data.draw(
            st.one_of(st.sampled_from(b'0159",:{}[]eE.-_nt'), st.integers(0, 255))
        )
    with spoilt(inputs, side, name, bytes(content)) as folder:
        composed(folder, tuned)


anything = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-2, 40),
        st.sampled_from([2**63, -(2**70), 10**400, 1e308, 0.5, float("inf"), float("nan")]),
        st.sampled_from(["", "q_proj", "llama", "gpt2", "(", "../x", "\ud800", "\0", "F32", SHARD]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["a", "rope_type", "quant_method"]), inner, max_size=2),
    ),
    max_leaves=4,
)

MORE_KEYS = [
    "text_config",
    "quantization_config",
    "num_local_experts",
    "layer_types",
    "sliding_window",
    "auto_map",
    "rope_parameters",
    "vision_config",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "target_parameters",
    "trainable_token_indices",
    "layers_to_transform",
    "layers_pattern",
    "exclude_modules",
    "use_dora",
    "init_lora_weights",
    "fan_in_fan_out",
    "base_model_name_or_path",
]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values in a JSON value."""
    if path:
        yield path
    pairs = value.items() if isinstance(value, dict) else ()
    for key, inner in pairs:
        yield from places(inner, (*path, key))


def replaced(value: dict[str, Any], path: tuple[Any, ...], new: object) -> None:
    for key in path[:-1]:
        value = value[key] if isinstance(value.get(key), dict) else value.setdefault("_", {})
    value[path[-1]] = new


@pytest.mark.parametrize(("side", "name", "tuned"), FILES)
@few
@given(data=st.data())
def test_replaced_values(
    inputs: Path, side: str, name: str, tuned: str, data: st.DataObject
) -> None:
    whole = (inputs / side / name).read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little") if name.endswith(".safetensors") else None
    value = json.loads(whole[8:header] if header else whole)
    some = st.sampled_from([*places(value), *(((key,)) for key in MORE_KEYS)])
    if header:
        some = st.sampled_from(list(places(value)))
    for path in data.draw(st.lists(some, min_size=1, max_size=3)):
        replaced(value, path, data.draw(anything))
    content = json.dumps(value).encode()
    if header:
        content = len(content).to_bytes(8, "little") + content + whole[header:]
    options = {"merge": data.draw(st.booleans())} if tuned == "adapter" else {}
    with spoilt(inputs, side, name, content) as folder:
        composed(folder, tuned, **{key: True for key, on in options.items() if on})


def edited_index(inputs: Path, target: str) -> bytes:
    index = json.loads((inputs / "tuned" / INDEX).read_text())
    for name in SHARDS[1]:
        index["weight_map"][name] = target
    return json.dumps(index).encode()


@pytest.mark.parametrize("how", ["../base/{}", "{absolute}", "sub/{}", "sub/../{}", "./{}"])
def test_an_index_that_points_outside_its_folder_is_refused(inputs: Path, how: str) -> None:
    target = how.format(SHARD, absolute=inputs / "tuned" / SHARD)
    with spoilt(inputs, "tuned", INDEX, edited_index(inputs, target)) as folder:
        (folder / "tuned" / "sub").mkdir()
        shutil.copy(folder / "tuned" / SHARD, folder / "tuned" / "sub" / SHARD)
        error = composed(folder)
        assert isinstance(error, CheckpointError)
        assert "own folder" in error.mend


def test_the_hubs_cache_of_symlinks_composes_to_the_same(inputs: Path, tmp_path: Path) -> None:
    plain, linked = tmp_path / "plain", tmp_path / "linked"
    for name in ("base", "tuned", "adapter"):
        shutil.copytree(inputs / name, plain / name)
        snapshot = linked / name / "snapshots" / "abc"
        snapshot.mkdir(parents=True)
        (linked / name / "blobs").mkdir()
        for number, file in enumerate(sorted((inputs / name).iterdir())):
            shutil.copy(file, linked / name / "blobs" / str(number))
            (snapshot / file.name).symlink_to(Path("../../blobs") / str(number))
    for tuned in ("tuned", "adapter"):
        outputs = []
        for folder, inner in ((plain, ""), (linked, "snapshots/abc")):
            output = tmp_path / folder.name / f"out-{tuned}"
            compose(folder / "base" / inner, folder / tuned / inner, output)
            assert not any(path.is_symlink() for path in output.rglob("*"))
            files = tree(output)
            for told in ("taia_config.json", "README.md"):  # they name the inputs' places
                del files[told]
            outputs.append(files)
        assert outputs[0] == outputs[1]


@pytest.mark.parametrize("side", ["base", "tuned"])
def test_pickles_are_refused_with_the_way_to_convert_them(
    inputs: Path, tmp_path: Path, side: str
) -> None:
    for name in ("base", "tuned"):
        shutil.copytree(inputs / name, tmp_path / name)
    for file in (tmp_path / side).glob("*.safetensors*"):
        file.unlink()
    (tmp_path / side / "pytorch_model.bin").write_bytes(b"\x80\x02")
    with pytest.raises(CheckpointError, match="pickled") as caught:
        compose(tmp_path / "base", tmp_path / "tuned", tmp_path / "out")
    assert "save_pretrained" in caught.value.mend
    assert not (tmp_path / "out").exists()


def test_a_pickled_adapter_is_refused_with_the_way_to_convert_it(
    inputs: Path, tmp_path: Path
) -> None:
    shutil.copytree(inputs / "adapter", tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_model.safetensors").rename(
        tmp_path / "adapter" / "adapter_model.bin"
    )
    with pytest.raises(InputError, match="pickle") as caught:
        compose(inputs / "base", tmp_path / "adapter", tmp_path / "out")
    assert "save" in caught.value.mend
    assert not (tmp_path / "out").exists()


def test_pickles_beside_safetensors_are_never_opened_nor_copied(
    inputs: Path, tmp_path: Path
) -> None:
    for name in ("base", "tuned", "adapter"):
        shutil.copytree(inputs / name, tmp_path / name)
        for pickle in ("pytorch_model.bin", "adapter_model.bin", "training_args.bin", "opt.pt"):
            os.mkfifo(tmp_path / name / pickle)  # to open it would wait for ever
            (tmp_path / name / f"tokenizer.{pickle}").write_bytes(b"\x80\x02")
    error = composed(tmp_path, "adapter")  # nor is which of the two is meant looked up in them
    assert error is not None
    assert "pytorch_model.bin" in error.problem
    (tmp_path / "adapter" / "pytorch_model.bin").unlink()
    for tuned in ("tuned", "adapter"):
        compose(tmp_path / "base", tmp_path / tuned, tmp_path / f"out-{tuned}")
        left = {path.suffix for path in (tmp_path / f"out-{tuned}").iterdir()}
        assert left <= {".safetensors", ".json", ".md"}


def test_an_input_that_shrinks_while_it_is_read_is_told(
    inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (inputs / "tuned" / SHARD).read_bytes()
    # Either of two threads may have read one piece when the first is told: there are more.
    pieces = {"keep": "q_proj + o_proj"}
    for tuned, options in (("tuned", {}), ("adapter", pieces), ("adapter", {"merge": True})):
        side, name = (
            ("tuned", SHARD) if tuned == "tuned" else ("adapter", "adapter_model.safetensors")
        )
        if "merge" in options:
            side, name = "base", SHARD
        with spoilt(inputs, side, name, (inputs / side / name).read_bytes()) as folder:
            file = folder / side / name

            def shrink(done: int, total: int, file: Path = file) -> None:
                os.truncate(file, 8)

            error = composed(folder, tuned, progress=shrink, **options)
            assert error is not None, (tuned, options)
            assert "shorter" in error.problem
    assert (inputs / "tuned" / SHARD).read_bytes() == whole


def test_names_that_are_not_utf8_are_carried(inputs: Path, tmp_path: Path) -> None:
    config = json.loads((inputs / "adapter" / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "half \ud800 pair"
    place = tmp_path / os.fsdecode(b"latin-\xe9")
    shutil.copytree(inputs, place)
    (place / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    compose(place / "base", place / "tuned", place / "out")
    record = json.loads((place / "out" / "taia_config.json").read_text())
    assert record["base"]["given"] == str(place / "base")
    compose(place / "base", place / "adapter", place / "filtered")
    kept = json.loads((place / "filtered" / "adapter_config.json").read_text())
    assert kept["base_model_name_or_path"] == config["base_model_name_or_path"]


@pytest.mark.parametrize("count", ["x", [1], {}, -1, 10**400])
def test_impossible_numbers_of_heads_are_no_numbers(inputs: Path, count: object) -> None:
    config = {"model_type": "mpt", "attn_config": {"kv_n_heads": count}}
    with spoilt(inputs, "base", "config.json", json.dumps(config).encode()) as folder:
        composed(folder)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "t5"},  # no causal language model
        {"model_type": "llama", "hidden_size": "wide"},
        {"model_type": "llama", "num_attention_heads": 0},
        {"model_type": ["llama"]},
        {},
    ],
)
def test_a_config_of_no_model_cannot_be_inspected(
    tmp_path: Path, config: dict[str, object]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"config\.json"):
        anatomy_of(tmp_path)
