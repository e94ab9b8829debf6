from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taia.checkpoint.header import BITS, make_header, nbytes, read_shard
from taia.errors import CheckpointError, TaiaError


def raw(table: object, data: bytes = b"") -> bytes:
    text = table if isinstance(table, bytes) else json.dumps(table).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype: str, shape: list[int], start: int, stop: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "0 bytes long"),
        (b"1234567", "7 bytes long"),
        (struct.pack("<Q", 100_000_001) + b"x", "limit"),
        (struct.pack("<Q", 50) + b"{}", "truncated inside its header"),
        (b"GGUF\x03\x00\x00\x00" + bytes(20), "GGUF"),
        (b"PK\x03\x04" + bytes(20), "pickle"),
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS"),
        (raw(b"{nonsense"), "not JSON"),
        (raw(b"[1]"), "not a JSON object"),
        (raw(b"\xff\xfe"), "not JSON"),
        (raw(b"[" * 100_000), "not JSON"),
        (raw(b'{"a":NaN}'), "not JSON"),
        (raw(b'{"a":1,"a":2}'), "twice"),
        (raw({"__metadata__": {"a": 1}}), "__metadata__"),
        (raw({"a": 3}), "lacks"),
        (raw({"a": {"dtype": "F32", "shape": [1]}}), "lacks"),
        (raw({"a": tensor("F33", [1], 0, 4)}, bytes(4)), "unknown dtype"),
        (raw({"a": tensor("F32", [-1], 0, 4)}, bytes(4)), "impossible shape"),
        (raw({"a": tensor("F32", [True], 0, 4)}, bytes(4)), "impossible shape"),
        (raw({"a": tensor("F32", [2**63], 0, 4)}, bytes(4)), "impossible shape"),
        (raw({"a": tensor("F32", [1], 4, 0)}, bytes(4)), "impossible offsets"),
        (raw({"a": tensor("F32", [1], 0, 2**64)}, bytes(4)), "impossible offsets"),
        (raw({"a": tensor("F32", [2], 0, 4)}, bytes(4)), "takes 8 bytes"),
        (raw({"a": tensor("F32", [2**40, 2**40], 0, 4)}, bytes(4)), "its offsets give it 4"),
        (raw({"a": tensor("U8", [2], 0, 2), "b": tensor("U8", [2], 1, 3)}, bytes(3)), "overlaps"),
        (raw({"a": tensor("U8", [2], 0, 2), "b": tensor("U8", [2], 3, 5)}, bytes(5)), "gap"),
        (raw({"a": tensor("U8", [2], 1, 3)}, bytes(3)), "gap"),
        (raw({"a": tensor("U8", [2], 0, 2)}, bytes(1)), "truncated"),
        (raw({"a": tensor("U8", [2], 0, 2)}, bytes(3)), "follow its last tensor"),
    ],
)
def test_damage_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_shard(file)
    assert says in caught.value.problem
    assert str(file) in caught.value.problem


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.safetensors cannot be read"):
        read_shard(tmp_path / "gone.safetensors")


def test_reads_what_the_library_writes(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    save_file = pytest.importorskip("safetensors.torch").save_file
    tensors = {
        "matrix": torch.arange(6, dtype=torch.float32).view(2, 3),
        "scalar": torch.tensor(7, dtype=torch.int64),
        "nothing": torch.zeros(0, 4, dtype=torch.float16),
        "bits": torch.tensor([True, False]),
    }
    save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "pt", "ü": "ß"})
    shard = read_shard(tmp_path / "x.safetensors")
    assert shard.metadata == {"format": "pt", "ü": "ß"}
    content = (tmp_path / "x.safetensors").read_bytes()
    assert {entry.name for entry in shard.entries} == set(tensors)
    for entry in shard.entries:
        expected = tensors[entry.name]
        assert entry.shape == tuple(expected.shape)
        assert content[entry.start : entry.stop] == expected.numpy().tobytes()


shapes = st.lists(st.integers(0, 5), max_size=3).map(tuple)
tables = st.dictionaries(
    st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
    st.tuples(st.sampled_from([name for name, bits in BITS.items() if bits % 8 == 0]), shapes),
    max_size=6,
)


@given(table=tables, metadata=st.dictionaries(st.text(), st.text(), max_size=2))
def test_what_is_written_reads_back(
    tmp_path_factory: pytest.TempPathFactory,
    table: dict[str, tuple[str, tuple[int, ...]]],
    metadata: dict[str, str],
) -> None:
    file = tmp_path_factory.mktemp("header") / "x.safetensors"
    header = make_header(((name, *value) for name, value in table.items()), metadata)
    file.write_bytes(header + bytes(sum(nbytes(*value) for value in table.values())))
    shard = read_shard(file)
    assert {e.name: (e.dtype, e.shape) for e in shard.entries} == table
    assert shard.metadata == metadata
    assert shard.header == header
    assert len(header) % 8 == 0


@given(data=st.data())
def test_fuzz_raises_nothing_but_our_errors(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    table = {"a": tensor("F32", [2, 2], 0, 16), "b": tensor("BF16", [3], 16, 22)}
    content = bytearray(raw(table, bytes(22)))
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, len(content) - 1))
        how = data.draw(st.sampled_from(["set", "cut", "insert"]))
        if how == "set":
            content[where] = data.draw(st.integers(0, 255))
        elif how == "insert":
            content[where:where] = data.draw(st.binary(max_size=3))
        else:
            del content[where:]
        if not content:
            break
    file = tmp_path_factory.mktemp("fuzz") / "x.safetensors"
    file.write_bytes(content)
    try:
        shard = read_shard(file)
    except TaiaError:
        return
    # What is accepted is consistent: no tensor reaches outside of the file.
    assert all(e.start <= e.stop <= len(content) for e in shard.entries)
