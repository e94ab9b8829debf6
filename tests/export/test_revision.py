"""An adapter is of one revision of its base: that one, for all targets and for the check."""

import json
import shlex

import huggingface_hub.constants
import pytest
import torch
from peft import AutoPeftModelForCausalLM

import hub_cache
import tiny_models
from taia.checkpoint.compose import compose
from taia.errors import DestinationError, DownloadError, RunError
from taia.export import to_transformers
from taia.export.run import export
from tiny_adapters import load_base, logits, quiet

REPO = "org/tiny"


@pytest.fixture
def adapter(tmp_path, monkeypatch):
    """An adapter of ``org/tiny@v1`` in a hub cache where ``main`` and ``tags/v2`` are others."""
    for name, spread in (("main", 0.3), ("v1", 0.2), ("v2", 0.25)):
        model = tiny_models.model("llama", spread=spread, **tiny_models.LLAMA)
        with quiet():
            model.save_pretrained(tmp_path / name)
            tiny_models.tokenizer().save_pretrained(tmp_path / name)
    hub = tmp_path / "hub"
    hub_cache.save(hub, REPO, {name: tmp_path / name for name in ("main", "v1", "v2")})
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(hub))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    base = load_base(tmp_path / "v1")
    base.name_or_path = REPO
    tuned = tiny_models.lora(base)
    tuned.peft_config["default"].revision = "v1"
    with quiet():
        tuned.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def revised(adapter, revision):
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "revision": revision}))


def peft_says(adapter, tmp_path):
    """What PEFT makes of it, which finds the base itself."""
    with quiet():
        model = AutoPeftModelForCausalLM.from_pretrained(
            adapter, cache_dir=tmp_path / "hub", local_files_only=True
        )
    return logits(model.merge_and_unload())


@pytest.mark.parametrize("revision", ["v1", "v2", None])
def test_merged_it_is_what_peft_merges_and_not_mains(tmp_path, adapter, revision):
    revised(adapter, revision)
    export(adapter, "transformers", tmp_path / "out", merge=True)
    merged = logits(load_base(tmp_path / "out"))
    torch.testing.assert_close(merged, peft_says(adapter, tmp_path), rtol=1e-4, atol=1e-5)
    revised(adapter, None if revision else "v1")
    assert (merged - peft_says(adapter, tmp_path)).abs().max() > 0.1


def test_the_check_has_the_adapters_base_and_not_the_outputs(tmp_path, adapter, monkeypatch):
    real = to_transformers.compose

    def on_main(base, *rest, **options):
        return real(tmp_path / "main", *rest, **options)

    monkeypatch.setattr(to_transformers, "compose", on_main)
    with pytest.raises(RunError, match="not the source"):
        export(adapter, "transformers", tmp_path / "out", merge=True)
    assert not (tmp_path / "out").exists()


def test_the_line_to_serve_names_the_revision(tmp_path, adapter):
    words = shlex.split(export(adapter, "vllm", tmp_path / "out").use)
    assert words[:3] == ["vllm", "serve", REPO]
    assert words[words.index("--revision") + 1] == "v1"
    revised(adapter, None)
    assert "--revision" not in export(adapter, "vllm", tmp_path / "none").use


def test_gguf_and_ollama_are_of_the_revision(tmp_path, adapter):
    export(adapter, "gguf", tmp_path / "out", merge=True, outtype="f32")
    export(tmp_path / "v1", "gguf", tmp_path / "v1.out", outtype="f32")
    from gguf import GGUFReader

    ours, plain = (
        {each.name: each.data for each in GGUFReader(folder / "model.gguf").tensors}
        for folder in (tmp_path / "out", tmp_path / "v1.out")
    )
    # a norm is not adapted, and an embedding neither: they are v1's
    assert (ours["token_embd.weight"] == plain["token_embd.weight"]).all()
    assert (ours["blk.0.attn_q.weight"] != plain["blk.0.attn_q.weight"]).any()
    export(adapter, "ollama", tmp_path / "ollama")
    said = (tmp_path / "ollama" / "Modelfile").read_text().splitlines()[0]
    assert said == f"FROM {(tmp_path / 'hub').resolve()}/models--org--tiny/snapshots/{2:040x}"


def test_a_revision_that_is_not_there_is_no_other(tmp_path, adapter):
    revised(adapter, "v9")
    with pytest.raises(DownloadError, match="v9"):
        export(adapter, "transformers", tmp_path / "out", merge=True)
    assert not (tmp_path / "out").exists()


def test_a_folder_has_no_revisions(tmp_path, adapter):
    file = adapter / "adapter_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "base_model_name_or_path": str(tmp_path / "v1")}))
    done = export(adapter, "vllm", tmp_path / "out")
    assert done.checks[0].passed
    assert done.use.startswith(f"vllm serve {tmp_path}/v1 --enable-lora")


def test_the_bases_name_alone_is_no_other_revision(tmp_path, adapter):
    export(adapter, "transformers", tmp_path / "out", base=REPO, merge=True)
    export(adapter, "transformers", tmp_path / "of main", base=f"{REPO}@main", merge=True)
    merged, mains = (logits(load_base(tmp_path / name)) for name in ("out", "main"))
    torch.testing.assert_close(merged, peft_says(adapter, tmp_path), rtol=1e-4, atol=1e-5)
    assert (merged - mains).abs().max() > 0.1
    assert f"{REPO} --revision v1 " in export(adapter, "vllm", tmp_path / "lora", base=REPO).use


def test_nor_is_it_of_what_taia_composed(tmp_path, adapter):
    compose(f"{REPO}@v2", adapter, tmp_path / "taia", "taia")
    use = export(tmp_path / "taia", "vllm", tmp_path / "out", base=REPO).use
    assert use.split()[:5] == ["vllm", "serve", REPO, "--revision", f"{3:040x}"]


def test_a_folder_of_the_bases_name_is_that_folder(tmp_path, adapter, monkeypatch):
    compose(f"{REPO}@v2", adapter, tmp_path / "taia", "taia")
    load_base(tmp_path / "v2").save_pretrained(tmp_path / REPO)
    monkeypatch.chdir(tmp_path)
    for source in (adapter, tmp_path / "taia"):
        done = export(source, "vllm", tmp_path / f"{source.name}.out", base=REPO)
        assert "--revision" not in done.use, source


def test_the_base_that_is_given_is_the_base(tmp_path, adapter):
    done = export(adapter, "vllm", tmp_path / "out", base=f"{REPO}@v2")
    assert f"vllm serve {REPO} --revision v2 " in done.use


def test_a_base_that_is_given_is_told_how_it_is_read(tmp_path, adapter):
    def notes(base, name):
        return export(adapter, "transformers", tmp_path / name, base=base).notes

    assert notes(None, "a") == notes(f"{REPO}@v1", "b") == ()
    (note,) = notes(REPO, "c")
    assert f"{REPO}@v1" in note
    (note,) = notes(f"{REPO}@main", "d")
    assert "says that it was trained from org/tiny@v1" in note


def test_a_base_here_is_not_overwritten_though_nobody_reads_it(tmp_path, adapter):
    base = tmp_path / "v1"
    before = {file.name: file.read_bytes() for file in base.iterdir()}
    options = {"verify": False, "overwrite": True}
    with pytest.raises(DestinationError, match="an input"):
        export(adapter, "vllm", base, base=str(base), **options)
    file = adapter / "adapter_config.json"
    own = {**json.loads(file.read_text()), "base_model_name_or_path": str(base), "revision": None}
    file.write_text(json.dumps(own))
    with pytest.raises(DestinationError, match="an input"):
        export(adapter, "transformers", base, **options)
    assert {file.name: file.read_bytes() for file in base.iterdir()} == before
