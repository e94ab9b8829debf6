"""Shared by the tests of the command line: inputs that are sound."""

import pytest

import tiny_files


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The paths of a base, a tuned model, an adapter, data, two recipes, and their folder.

    Beside these there are a base without a tokenizer, ``mute``, and an ``empty`` folder.
    """
    folder = tmp_path_factory.mktemp("right")
    config = tiny_files.llama_config()
    tiny_files.write(folder / "base", tiny_files.llama(), config=config)
    tiny_files.write(folder / "tuned", tiny_files.llama(), config=config, seed=1)
    (folder / "base" / "tokenizer_config.json").write_text("{}")
    tiny_files.adapter(folder / "adapter")
    tiny_files.write(folder / "mute", tiny_files.llama(), config=config)  # without a tokenizer
    (folder / "empty").mkdir()
    (folder / "data.jsonl").write_text('{"instruction": "a", "output": "b"}\n' * 4)
    (folder / "recipe.yaml").write_text("lora_r: 4\n")
    (folder / "odd.yaml").write_text("lora_rr: 4\n")
    return {path.stem: str(path) for path in folder.iterdir()} | {"folder": str(folder)}
