"""Cards of exports: what is published names models, and tells nobody's folders."""

import json

import pytest

import hub_cache
from taia.checkpoint.compose import compose
from taia.export.run import export
from tiny_adapters import save_pair
from tiny_models import save_llama

CARD = """---
base_model: {base}
datasets:
- {root}/data/rows.jsonl
---

# A fine-tune of [`{base}`]({base})

Trained in ~/runs/sft-3 from ../other/config.yaml and file://{root}/notes.txt.
Of 3/4 and/or more of the rows.
On Windows it was C:\\Users\\me\\model. See https://example.org/a/b/c and <b>this</b>.

```sh
taia train --model {base} --output {root}/out
```
"""
KEPT = (
    "https://example.org/a/b/c",
    "<b>this</b>",
    "Of 3/4 and/or more of the rows",
    "taia train --model",
)


@pytest.mark.parametrize("target", ["transformers", "vllm"])
def test_an_adapters_card_keeps_its_words_and_loses_its_folders(tmp_path, target):
    base, adapter = save_pair(tmp_path, "llama")
    (adapter / "README.md").write_text(CARD.format(base=base, root=tmp_path))
    export(adapter, target, tmp_path / "out", verify=False)
    card = (tmp_path / "out" / "README.md").read_text()
    assert str(tmp_path) not in card
    for told in ("~/", "../", "file://", "C:\\", "Users"):
        assert told not in card
    for kept in KEPT:
        assert kept in card
    assert "base_model: base\n" in card
    assert "--model base --output out" in card
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(base)  # PEFT finds it there


def test_a_composed_and_a_merged_models_card(tmp_path):
    base, adapter = save_pair(tmp_path, "llama")
    compose(base, adapter, tmp_path / "taia", "taia")
    export(tmp_path / "taia", "transformers", tmp_path / "out", verify=False)
    export(tmp_path / "taia", "transformers", tmp_path / "merged", merge=True, verify=False)
    save_llama(tmp_path / "whole")
    (tmp_path / "whole" / "README.md").write_text(CARD.format(base=base, root=tmp_path))
    export(tmp_path / "whole", "transformers", tmp_path / "copy", verify=False)
    for place in ("out", "merged", "copy"):
        card = (tmp_path / place / "README.md").read_text()
        assert str(tmp_path) not in card, place
        assert "base" in card


def test_a_model_in_the_hubs_cache_goes_by_its_name(tmp_path):
    base, adapter = save_pair(tmp_path, "llama")
    hub_cache.save(tmp_path / "hub", "org/some-model", {"main": base})
    snapshot = tmp_path / "hub" / "models--org--some-model" / "snapshots" / f"{1:040x}"
    (adapter / "README.md").write_text(f"base_model: {snapshot}\n")
    export(adapter, "transformers", tmp_path / "out", verify=False)
    assert (tmp_path / "out" / "README.md").read_text() == "base_model: org/some-model\n"


def test_a_folder_with_spaces_and_marks_is_safe_in_a_card(tmp_path):
    root = tmp_path / "my models"
    name = "<img src=x onerror=alert(1)>"
    (root / name).mkdir(parents=True)
    base, adapter = save_pair(root / name, "llama")
    (adapter / "README.md").write_text(f"It is from {base} and {adapter.parent / 'adapter'}.\n")
    export(adapter, "transformers", tmp_path / "out", verify=False)
    card = (tmp_path / "out" / "README.md").read_text()
    assert str(root) not in card
    assert "my models" not in card
    assert "<img" not in card
