"""Patterns of an adapter's config that never end are refused; those that people write are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from taia.checkpoint.compose import compose
from taia.errors import AdapterError, InputError
from tiny_files import adapter, llama, llama_config, write

ENDLESS = [
    ("target_modules", r"(\w+\.?)+!"),
    ("target_modules", r"(?=(\w+\.?)+!)x"),
    ("exclude_modules", r"(.*.*)*!"),
    ("exclude_modules", "(?:l|la|a|.)*" * 6 + "!"),
    ("rank_pattern", r"(?:.|\w)*!"),
    ("alpha_pattern", "(?:.?.?.?){30}!"),
]
HARMLESS = [
    r".*\.(q_proj|v_proj)",
    r"^(?!.*vision).*(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)$",
    r"(\w+\.)*(q_proj|up_proj)",
    r"model\.layers\.\d+\.(self_attn|mlp)\.(?:q|k|v|o|gate|up|down)_proj",
    r"(?:.*?(?:language|model).*?(?:self_attn|attn|mlp|ffn).*?(?:q_proj|k_proj|up_proj).*?)"
    r"|(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|mlp)\.(?:(?:q_proj|k_proj)))",
]


def with_config(folder: Path, **values: object) -> Path:
    made = adapter(folder)
    config = json.loads((made / "adapter_config.json").read_text()) | values
    (made / "adapter_config.json").write_text(json.dumps(config))
    return made


@pytest.mark.parametrize(("key", "pattern"), ENDLESS)
def test_what_never_ends_is_refused(tmp_path: Path, key: str, pattern: str) -> None:
    made = with_config(
        tmp_path / "a", **{key: pattern if "modules" in key else {"x": 4, pattern: 2}}
    )
    with pytest.raises(AdapterError, match="too long to match") as caught:
        compose(None, made, None, dry_run=True)
    assert key in caught.value.problem


def test_what_never_ends_on_the_bases_names_alone_is_refused(tmp_path: Path) -> None:
    names = {**llama(), "model.layers.0." + "a." * 40 + "weight": ("F32", (2,))}
    base = write(tmp_path / "base", names, config=llama_config())
    made = with_config(tmp_path / "a", exclude_modules=r"model\.layers\.0\.((a|\.)(a|\.)?)+!")
    compose(None, made, None, dry_run=True)
    with pytest.raises(AdapterError, match="exclude_modules"):
        compose(base, made, None, dry_run=True, declare={"*.a.*": "mlp"})


@pytest.mark.parametrize("pattern", HARMLESS)
def test_what_people_write_is_taken(tmp_path: Path, pattern: str) -> None:
    base = write(tmp_path / "base", llama(), config=llama_config())
    for number, values in enumerate(
        ({"target_modules": pattern}, {"exclude_modules": f"!(?:{pattern})"})
    ):
        made = with_config(tmp_path / str(number), **values)
        done = compose(base, made, tmp_path / f"out{number}")
        assert done.total.tuned.tensors == 16  # the attention's of two layers


@pytest.mark.parametrize("key", ["target_modules", "exclude_modules", "rank_pattern"])
def test_a_pattern_of_a_megabyte_is_refused(tmp_path: Path, key: str) -> None:
    pattern = "(a|b)*" * 200_000
    made = with_config(tmp_path / "a", **{key: {pattern: 2} if "rank" in key else pattern})
    with pytest.raises(InputError) as caught:
        compose(None, made, None, dry_run=True)
    assert len(caught.value.problem) < 1000
