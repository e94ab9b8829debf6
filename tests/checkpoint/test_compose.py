"""Every tensor's bytes against their right source, found here by the plainest code there is."""

from __future__ import annotations

import gc
import json
import math
import random
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taia.checkpoint.compose import compose
from taia.checkpoint.index import Checkpoint
from taia.errors import InputError, TaiaError
from tiny_files import content, llama, llama_config, write

NAMES = list(llama())
THREE = [NAMES[:5], NAMES[5:12], NAMES[12:]]
TWO = [NAMES[10:], NAMES[:10]]


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A base in three shards and a tuned model in two others."""
    base = write(tmp_path / "base", llama(), 0, shards=THREE, config=llama_config())
    tuned = write(tmp_path / "tuned", llama(), 1, shards=TWO, config=llama_config())
    return base, tuned


def is_mlp(name: str) -> bool:
    return ".mlp." in name


@pytest.mark.parametrize(
    ("keep", "from_tuned"),
    [
        ("base", lambda name: False),
        ("tuned", lambda name: True),
        ("taia", lambda name: not is_mlp(name)),
        ("taif", is_mlp),
        ("attention[1:]", lambda name: "1.self_attn" in name),
    ],
)
def test_every_tensor_is_its_source_byte_for_byte(pair, tmp_path, keep, from_tuned) -> None:
    base, tuned = pair
    done = compose(base, tuned, tmp_path / "out", keep)
    ours, theirs, out = content(base), content(tuned), content(tmp_path / "out")
    assert out == {name: (theirs if from_tuned(name) else ours)[name] for name in ours}
    assert done.alphas == {name: float(from_tuned(name)) for name in ours}
    assert done.written
    assert done.kind == "checkpoint"


def test_the_output_is_laid_out_like_the_base(pair, tmp_path) -> None:
    base, tuned = pair
    compose(base, tuned, tmp_path / "out")
    for file in base.iterdir():
        out = tmp_path / "out" / file.name
        assert out.stat().st_size == file.stat().st_size
        if file.suffix == ".json":
            assert out.read_bytes() == file.read_bytes()
    heads = [
        [shard.header for shard in Checkpoint.open(f).shards] for f in (base, tmp_path / "out")
    ]
    assert heads[0] == heads[1]


def test_composing_base_gives_the_base_files(pair, tmp_path) -> None:
    base, tuned = pair
    compose(base, tuned, tmp_path / "out", "base")
    for file in base.iterdir():
        assert (tmp_path / "out" / file.name).read_bytes() == file.read_bytes()


def test_the_table_counts_tensors_parameters_and_bytes(pair, tmp_path) -> None:
    done = compose(*pair, tmp_path / "out")
    rows = {row.component: row for row in done.rows}
    mlp = [shape for name, (_, shape) in llama().items() if is_mlp(name)]
    assert rows["mlp"].base.tensors == len(mlp)
    assert rows["mlp"].base.parameters == sum(map(math.prod, mlp))
    assert rows["mlp"].base.bytes == 2 * rows["mlp"].base.parameters
    assert rows["mlp"].tuned.tensors == rows["attention"].base.tensors == 0
    assert rows["attention"].tuned.tensors == 8
    assert done.total.total.tensors == len(NAMES)
    assert done.total.total.bytes == sum(map(len, content(pair[0]).values()))


def test_a_dry_run_says_the_same_and_writes_nothing(pair, tmp_path) -> None:
    dry = compose(*pair, tmp_path / "out", dry_run=True)
    assert not (tmp_path / "out").exists()
    assert sorted(f.name for f in tmp_path.iterdir()) == ["base", "tuned"]
    done = compose(*pair, tmp_path / "out")
    assert not dry.written
    assert dry.rows == done.rows
    assert dry.alphas == done.alphas
    assert compose(*pair, None, dry_run=True).output is None
    json.dumps(dry.to_json())


def test_progress_counts_every_byte_once(pair, tmp_path) -> None:
    seen = []
    compose(*pair, tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
    weights = sum(f.stat().st_size for f in (tmp_path / "out").glob("*.safetensors"))
    assert seen[-1] == (weights, weights)
    assert seen == sorted(seen)


dtypes = st.sampled_from(["BF16", "F16", "F32"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_shards_dtypes_and_layers(tmp_path_factory, data) -> None:
    folder = tmp_path_factory.mktemp("random")
    layers = data.draw(st.integers(1, 3))
    hidden = data.draw(st.sampled_from([4, 8, 12]))
    tensors = {
        name: (data.draw(dtypes), shape)
        for name, (_, shape) in llama(layers, hidden=hidden).items()
    }
    config = llama_config(layers, hidden)
    sides = []
    for seed, side in enumerate(("base", "tuned")):
        names = list(tensors)
        random.Random(data.draw(st.integers(0, 99))).shuffle(names)
        cuts = sorted(data.draw(st.sets(st.integers(1, len(names) - 1), max_size=3)))
        shards = [names[a:b] for a, b in zip([0, *cuts], [*cuts, len(names)], strict=True)]
        shards = None if data.draw(st.booleans()) else shards
        sides.append(write(folder / side, tensors, seed, shards=shards, config=config))
    components = data.draw(st.sets(st.sampled_from(["self_attn", "mlp", "norm", "lm_head"])))
    names = {"self_attn": "attention", "mlp": "mlp", "norm": "norm", "lm_head": "head"}
    keep = " + ".join(names[c] for c in components) or "none"
    compose(*sides, folder / "out", keep)
    ours, theirs, out = map(content, (*sides, folder / "out"))
    assert out == {
        name: (theirs if any(c in name for c in components) else ours)[name] for name in ours
    }
    assert list(Checkpoint.open(folder / "out").tensors) == list(Checkpoint.open(sides[0]).tensors)


# --- what must not happen


def test_bad_requests(pair, tmp_path) -> None:
    with pytest.raises(InputError, match="No output"):
        compose(*pair, None)
    with pytest.raises(InputError, match="No base"):
        compose(None, pair[1], tmp_path / "out")
    with pytest.raises(InputError, match="whole checkpoint"):
        compose(*pair, tmp_path / "out", merge=True)
    with pytest.raises(InputError, match="vocab"):
        compose(*pair, tmp_path / "out", vocab="both")  # type: ignore[arg-type]
    with pytest.raises(TaiaError):
        compose(pair[0], tmp_path / "nowhere", tmp_path / "out")
    assert sorted(f.name for f in tmp_path.iterdir()) == ["base", "tuned"]


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_copies_need_no_heavy_imports(pair, tmp_path) -> None:
    code = """
import sys
from taia.checkpoint.compose import compose
compose(*sys.argv[1:4], "attention")
heavy = {"torch", "transformers", "safetensors", "numpy", "huggingface_hub"} & set(sys.modules)
assert not heavy, heavy
"""
    done = run(code, *pair, tmp_path / "out")
    assert done.returncode == 0, done.stderr


def test_memory_stays_small_at_any_size(tmp_path) -> None:
    big = llama(1, hidden=4096, vocabulary=100)  # 300 MB of bf16
    config = llama_config(1, 4096, 100)
    for side in ("base", "tuned"):
        folder = write(tmp_path / side, {}, config=config)
        from taia.checkpoint.header import make_header, nbytes

        header = make_header(((name, *tensor) for name, tensor in big.items()), {"format": "pt"})
        with (folder / "model.safetensors").open("wb") as file:
            file.write(header)
            file.truncate(len(header) + sum(nbytes(*tensor) for tensor in big.values()))
    code = """
import sys
from taia.checkpoint.compose import compose
compose(*sys.argv[1:4])
with open("/proc/self/status") as status:
    print(next(line for line in status if line.startswith("VmHWM")).split()[1])
"""
    if not Path("/proc/self/status").exists():
        pytest.skip("peak memory is read from /proc")
    done = run(code, tmp_path / "base", tmp_path / "tuned", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "model.safetensors").stat().st_size > 300_000_000
    assert int(done.stdout) * 1024 < 100e6


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("keep", ["taia", "0.5*no_such_part"])
def test_the_search_for_cycles_is_as_it_was(tmp_path, enabled, keep) -> None:
    pair = [write(tmp_path / n, llama(), i, config=llama_config()) for i, n in enumerate("ab")]
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        with pytest.raises(TaiaError) if "no" in keep else nullcontext():
            compose(*pair, tmp_path / "out", keep)
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()
