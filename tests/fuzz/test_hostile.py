"""Hostile input through the public functions: a result or an error of taia's, within bounds."""

from __future__ import annotations

import json
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.hostile import alone, names, numbers, often, outcome, values, words
from taia.anatomy import Anatomy, TensorInfo
from taia.checkpoint.compose import compose
from taia.checkpoint.composition import Composition
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.inspection import anatomy_of
from taia.checkpoint.reading import read_json
from taia.errors import CheckpointError, TaiaError
from tiny_files import adapter, llama, llama_config, write


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``base``, ``tuned`` and ``adapter``, all sound."""
    folder = tmp_path_factory.mktemp("inputs")
    for seed, name in enumerate(("base", "tuned")):
        write(folder / name, llama(), seed, config=llama_config())
    adapter(folder / "adapter")
    return folder


@contextmanager
def changed(inputs: Path, side: str, name: str, content: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        for each in ("base", "tuned", "adapter"):
            shutil.copytree(inputs / each, Path(made) / each)
        (Path(made) / side / name).write_bytes(content)
        yield Path(made)


def raw(table: object, data: bytes = b"") -> bytes:
    text = json.dumps(table).encode()
    return struct.pack("<Q", len(text)) + text + data


COUNTS = ["num_hidden_layers", "num_attention_heads", "num_key_value_heads", "n_head", "head_dim"]
COUNTS += ["hidden_size", "vocab_size", "num_experts", "num_local_experts", "sliding_window"]
SHAPES = ["model_type", "rope_scaling", "rope_parameters", "text_config", "layer_types", "dtype"]
SHAPES += ["quantization_config", "tie_word_embeddings", "eos_token_id", "architectures"]


@often
@given(st.dictionaries(st.sampled_from(COUNTS + SHAPES), st.one_of(numbers, values), max_size=4))
def test_configs(inputs: Path, more: dict[str, Any]) -> None:
    content = json.dumps(llama_config(**more)).encode("utf-8", "surrogatepass")
    for side in ("base", "tuned"):
        with changed(inputs, side, "config.json", content) as folder:
            done = outcome(
                lambda: compose(folder / "base", folder / "tuned", folder / "out", "taia")
            )
            assert isinstance(done, Composition) == (folder / "out").exists()
            outcome(lambda there=folder / side: anatomy_of(there))


ADAPTER_KEYS = ["r", "lora_alpha", "target_modules", "exclude_modules", "rank_pattern"]
ADAPTER_KEYS += ["alpha_pattern", "modules_to_save", "layers_to_transform", "layers_pattern"]
ADAPTER_KEYS += ["base_model_name_or_path", "peft_type", "trainable_token_indices", "bias"]


@often
@given(st.dictionaries(st.sampled_from(ADAPTER_KEYS), st.one_of(words, values), max_size=3))
def test_adapter_configs(inputs: Path, more: dict[str, Any]) -> None:
    config = json.loads((inputs / "adapter" / "adapter_config.json").read_text()) | more
    content = json.dumps(config).encode("utf-8", "surrogatepass")
    with changed(inputs, "adapter", "adapter_config.json", content) as folder:
        done = outcome(lambda: compose(folder / "base", folder / "adapter", folder / "out", "taia"))
        assert isinstance(done, Composition) == (folder / "out").exists()


pieces = st.sampled_from(["a", r"\w", ".", r"\.", "l", "q_proj", "x", "!", "$", "^", r"\d"])
patterns = st.recursive(
    pieces,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["*", "+", "?", "*?", "{2,}", "{0,9}"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda each: f"({'|'.join(each)})"),
    ),
    max_leaves=8,
)


@often
@given(patterns, st.sampled_from(["target_modules", "exclude_modules", "rank_pattern"]))
def test_regular_expressions(inputs: Path, pattern: str, key: str) -> None:
    config = json.loads((inputs / "adapter" / "adapter_config.json").read_text())
    config[key] = {pattern: 2} if key == "rank_pattern" else pattern
    with changed(inputs, "adapter", "adapter_config.json", json.dumps(config).encode()) as folder:
        done = outcome(lambda: compose(folder / "base", folder / "adapter", folder / "out"))
        assert isinstance(done, Composition | TaiaError)


@often
@given(st.lists(names, min_size=1, max_size=6, unique=True), st.booleans())
def test_names(inputs: Path, given_names: list[str], declared: bool) -> None:
    declare = {"*": "mlp"} if declared else None
    labels = outcome(lambda: Anatomy.of_tensors(map(TensorInfo, given_names), None, declare))
    assert isinstance(labels, TaiaError) or list(labels) == given_names
    assert not (declared and isinstance(labels, TaiaError))
    table = {
        name: {"dtype": "BF16", "shape": [2, 2], "data_offsets": [8 * number, 8 * number + 8]}
        for number, name in enumerate(given_names)
    }
    content = raw(table, bytes(8 * len(given_names)))
    with changed(inputs, "tuned", "model.safetensors", content) as folder:
        for pair in (("tuned", "tuned"), ("base", "tuned"), ("tuned", "base")):
            one, other = (folder / side for side in pair)
            done = outcome(lambda one=one, other=other: compose(one, other, None, dry_run=True))
            assert isinstance(done, Composition | TaiaError)
        outcome(lambda: anatomy_of(folder / "tuned", declare))


@often
@given(st.lists(names, min_size=1, max_size=4, unique=True), st.sampled_from(["A", "B"]))
def test_adapter_names(inputs: Path, given_names: list[str], side: str) -> None:
    prefixed = [f"base_model.model.{name}.lora_{side}.weight" for name in given_names]
    table = {
        name: {"dtype": "F32", "shape": [2, 2], "data_offsets": [16 * number, 16 * number + 16]}
        for number, name in enumerate(prefixed)
    }
    content = raw(table, bytes(16 * len(table)))
    with changed(inputs, "adapter", "adapter_model.safetensors", content) as folder:
        done = outcome(lambda: compose(folder / "base", folder / "adapter", folder / "out"))
        assert isinstance(done, Composition) == (folder / "out").exists()


@often
@given(st.dictionaries(words, st.one_of(words, values), max_size=4), values)
def test_indexes(inputs: Path, weight_map: dict[str, Any], metadata: Any) -> None:
    index = json.dumps({"weight_map": weight_map, "metadata": metadata})
    content = index.encode("utf-8", "surrogatepass")
    with changed(inputs, "tuned", "model.safetensors.index.json", content) as folder:
        (folder / "tuned" / "model.safetensors").unlink()
        assert isinstance(outcome(lambda: Checkpoint.open(folder / "tuned")), TaiaError)


@often
@given(st.integers(1, 3000), st.sampled_from(["[", '{"a":', '[{"b":']), st.booleans())
def test_deep_json(inputs: Path, depth: int, opening: str, closed: bool) -> None:
    closing = opening.replace('"a":', "").replace('"b":', "")[::-1].translate({91: 93, 123: 125})
    deep = opening * depth + "1" + (closing * depth if closed else "")
    for name in ("config.json", "taia_config.json"):
        with changed(inputs, "tuned", name, f'{{"base": {deep}}}'.encode()) as folder:
            done = outcome(lambda: compose(folder / "base", folder / "tuned", folder / "out"))
            assert isinstance(done, Composition) == (folder / "out").exists()


@often
@given(st.binary(max_size=200), st.integers(0, 2**64 - 1))
def test_headers(tmp_path: Path, content: bytes, length: int) -> None:
    file = tmp_path / "model.safetensors"
    for data in (content, struct.pack("<Q", length) + content, raw({}) + content):
        file.write_bytes(data)
        assert isinstance(outcome(lambda: Checkpoint.open(file)), TaiaError)


@often
@given(words, words)
def test_declarations_and_selections(inputs: Path, pattern: str, text: str) -> None:
    done = outcome(
        lambda: compose(
            inputs / "base", inputs / "tuned", None, text, dry_run=True, declare={pattern: "mlp"}
        )
    )
    assert isinstance(done, Composition | TaiaError)


# --- bounds: each in a process of its own


def header(fill: bytes, size: int) -> bytes:
    """A header of that size that is JSON as far as it goes."""
    text = b'{"a":[' + fill * ((size - 20) // len(fill))
    text = text.rstrip(b",") + b"]}"
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    "fill", [b"[],", b"{},", b"1,", b'"x",', b"0.5,", b"null,", b'{"a":1},', b"[[[],[]]],"]
)
@pytest.mark.parametrize("size", [24_000_000, 99_000_000])
def test_a_header_of_many_values(tmp_path: Path, fill: bytes, size: int) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(header(fill, size))
    code = "from taia.checkpoint.header import read_shard\nfrom pathlib import Path\n"
    said = alone(f"{code}read_shard(Path(sys.argv[1]))", file)
    assert said.startswith("CheckpointError:")


@pytest.mark.parametrize("character", ["a", "ä", "😀"])
def test_a_header_of_one_string(tmp_path: Path, character: str) -> None:
    text = json.dumps({"__metadata__": {"a": character * 6_000_000}}, ensure_ascii=False).encode()
    file = tmp_path / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(text)) + text)
    code = "from taia.checkpoint.header import read_shard\nfrom pathlib import Path\n"
    alone(f"{code}read_shard(Path(sys.argv[1]))", file)


COMPOSE = """
from taia.checkpoint.compose import compose
compose(sys.argv[1] + "/base", sys.argv[1] + "/" + sys.argv[2], None, dry_run=True)
"""


@pytest.mark.parametrize(
    "config",
    [
        {"num_attention_heads": 50_000_000},
        {"num_hidden_layers": 10**9},
        {"num_key_value_heads": 10**12, "num_attention_heads": 10**12},
        {"head_dim": 1, "num_attention_heads": 2**40},
        {"model_type": "gpt_oss", "num_local_experts": 10**15},
        {"x": [[]] * 300_000},
    ],
)
def test_a_config_of_great_numbers(inputs: Path, config: dict[str, Any]) -> None:
    content = json.dumps(llama_config(**config)).encode()
    with changed(inputs, "base", "config.json", content) as folder:
        alone(COMPOSE, folder, "tuned")


def test_a_pattern_that_never_ends(inputs: Path) -> None:
    config = json.loads((inputs / "adapter" / "adapter_config.json").read_text())
    config["target_modules"] = r"(.*\w*)*!"
    with changed(inputs, "adapter", "adapter_config.json", json.dumps(config).encode()) as folder:
        assert alone(COMPOSE, folder, "adapter").startswith("AdapterError:")


@pytest.mark.parametrize("bytes_of", [lambda: b"[" * 24_000_000, lambda: b'{"a":' * 4_000_000])
def test_json_of_nothing_but_depth(tmp_path: Path, bytes_of: Any) -> None:
    (tmp_path / "config.json").write_bytes(bytes_of())
    with pytest.raises(CheckpointError):
        read_json(tmp_path / "config.json")


def test_a_template_is_never_rendered_when_models_are_composed(
    inputs: Path, tmp_path: Path
) -> None:
    template = "{% for i in range(10**9) %}{% for j in range(10**9) %}x{% endfor %}{% endfor %}"
    with changed(inputs, "tuned", "chat_template.jinja", template.encode()) as folder:
        (folder / "tuned" / "tokenizer.json").write_text("{}")
        compose(folder / "base", folder / "tuned", tmp_path / "out", "taia")
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == template
