"""The Modelfile beside what was checked, and chat templates known by what they render."""

import re

import pytest

import tiny_models
from taia.export.run import export
from taia.export.to_ollama import FAMILIES, recognised
from tiny_adapters import save_pair


@pytest.fixture
def adapter(tmp_path):
    _, adapter = save_pair(tmp_path, "llama")
    return adapter


def test_the_modelfile(tmp_path, adapter):
    tiny_models.tokenizer().save_pretrained(tmp_path / "base")
    done = export(adapter, "ollama", tmp_path / "My out")
    assert done.files == ("Modelfile", "adapter.gguf")
    lines = (tmp_path / "My out" / "Modelfile").read_text().splitlines()
    assert lines[:2] == [f"FROM {tmp_path}/base", "ADAPTER ./adapter.gguf"]
    assert lines[2].startswith('TEMPLATE """{{ range .Messages }}{{ if eq .Role "system" }}')
    assert 'PARAMETER stop "<|im_end|>"' in lines
    assert done.use == f"ollama create 'my out' -f '{tmp_path}/My out'/Modelfile"
    assert "Ollama itself was not run" in done.checks[-1].said
    assert any("chatml" in note for note in done.notes)


def test_an_unknown_chat_template_is_left_out_and_said(tmp_path, adapter):
    made = tiny_models.tokenizer()
    made.chat_template = "{{ messages[0]['content'] }}"
    made.save_pretrained(tmp_path / "base")
    done = export(adapter, "ollama", tmp_path / "out")
    assert "TEMPLATE" not in (tmp_path / "out" / "Modelfile").read_text()
    assert any("TEMPLATE is left out" in note for note in done.notes)


def test_it_builds_on_the_gguf_that_was_given(tmp_path, adapter):
    file = tmp_path / "base.gguf"
    file.write_bytes(b"GGUF")
    export(adapter, "ollama", tmp_path / "out", base_gguf=file, verify=False)
    assert (tmp_path / "out" / "Modelfile").read_text().startswith(f"FROM {file}\n")


@pytest.mark.parametrize("merge", [False, True])
def test_a_whole_model_is_its_own_base(tmp_path, merge):
    base = tiny_models.llama()
    base.name_or_path = str(tiny_models.save_llama(tmp_path / "base"))
    tiny_models.lora(base).save_pretrained(tmp_path / "adapter")
    source = tmp_path / ("adapter" if merge else "base")
    done = export(source, "ollama", tmp_path / "out", merge=merge, outtype="f16")
    assert done.files == ("Modelfile", "model.gguf")
    lines = (tmp_path / "out" / "Modelfile").read_text().splitlines()
    assert lines[0] == "FROM ./model.gguf"
    assert not any(line.startswith("ADAPTER") for line in lines)
    assert any(line.startswith("TEMPLATE") for line in lines)
    assert done.use == f"ollama create out -f {tmp_path}/out/Modelfile"
    assert "Ollama itself was not run" in done.checks[-1].said


# --- chat templates -----------------------------------------------------------------------------

JINJA = {
    "chatml": tiny_models.CHAT,
    "llama3": (
        "{% for m in messages %}{% set c = '<|start_header_id|>' + m['role'] + "
        "'<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
        "{% set c = bos_token + c %}{% endif %}{{ c }}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    ),
    "llama2": (
        "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set s = "
        "messages[0]['content'] %}{% else %}{% set rest = messages %}{% set s = false %}{% endif %}"
        "{% for m in rest %}{% if loop.index0 == 0 and s != false %}{% set c = '<<SYS>>\n' + s + "
        "'\n<</SYS>>\n\n' + m['content'] %}{% else %}{% set c = m['content'] %}{% endif %}"
        "{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + c.strip() + ' [/INST]' }}"
        "{% elif m['role'] == 'assistant' %}{{ ' ' + c.strip() + ' ' + eos_token }}{% endif %}"
        "{% endfor %}"
    ),
    "phi3": (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
    ),
    "zephyr": (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
    ),
    "gemma": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}"
        "{% endif %}{% for m in messages %}{% set r = 'model' if m['role'] == 'assistant' else "
        "m['role'] %}{{ '<start_of_turn>' + r + '\n' + m['content'] | trim + '<end_of_turn>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
    ),
}
TALKS = [
    [("user", "a")],
    [("user", "a"), ("assistant", "b"), ("user", "c")],
    [("system", "s"), ("user", "a")],
    [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")],
]


def tokenizer(template):
    made = tiny_models.tokenizer(chat=False)
    made.bos_token, made.eos_token = "<s>", "</s>"
    made.chat_template = template
    return made


def go(template, messages):
    """As much of Go's text/template as the templates use, one action at a time."""
    parts = re.split(r"\{\{ (.*?) \}\}", template)
    variables, out = {}, []

    def truth(words, message):
        if words[0] == "not":
            return not variables[words[1]]
        assert words[:2] == ["eq", ".Role"]
        return message["role"] == words[2].strip('"')

    def block(at, message, run):
        """Runs until the block's end; returns where that is and whether a branch was taken."""
        taken = [run]
        while at < len(parts):
            if taken[-1] and run:
                out.append(parts[at])
            if at + 1 == len(parts):
                return at
            words = parts[at + 1].split()
            at += 2
            live = run and taken[-1]
            if words[0] == "range":
                for each in messages:
                    end = block(at, each, True)
                at = end
            elif words[0] == "if":
                at = branches(at, words[1:], message, live)
            elif words[0] in ("end", "else"):
                return at - 2
            elif live and words[0] == ".Content":
                out.append(message["content"])
            elif live:
                assert words[1] in (":=", "=")
                variables[words[0]] = words[2] == "true"
            if words[0] == "range":
                assert parts[at + 1] == "end"
                at += 2
        return at

    def branches(at, condition, message, live):
        done = False
        while True:
            now = live and not done and truth(condition, message)
            done = done or now
            at = block(at, message, now)
            words = parts[at + 1].split()
            at += 2
            if words == ["end"]:
                return at
            assert words[:2] == ["else", "if"]
            condition = words[2:]

    block(0, None, True)
    return "".join(out)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_familys_tokenizer_is_recognised_and_no_other(family):
    assert {f.name for f in FAMILIES} == JINJA.keys()
    found = recognised(tokenizer(JINJA[family.name]))
    assert found is not None
    assert (found.family.name, found.system) == (family.name, None)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_go_template_renders_what_the_tokenizer_does(family):
    known = tokenizer(JINJA[family.name])
    for talk in TALKS:
        messages = [{"role": role, "content": content} for role, content in talk]
        if messages[0]["role"] == "system" and "system" not in family.turns:
            continue
        if messages[-1]["role"] == "assistant":
            continue
        wanted = known.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert go(family.template(), messages) == wanted.removeprefix("<s>")


def test_a_default_system_message_is_found():
    template = (
        "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe brief.<|im_end|>\n' }}"
        "{% endif %}" + JINJA["chatml"]
    )
    found = recognised(tokenizer(template))
    assert found is not None
    assert (found.family.name, found.system) == ("chatml", "Be brief.")


@pytest.mark.parametrize(
    "template",
    [
        None,
        "{{ messages[0]['content'] }}",
        JINJA["chatml"].replace("<|im_end|>", "<|end_of_turn|>"),
        JINJA["chatml"].replace("assistant\n'", "assistant'"),
        JINJA["chatml"] + "<think>\n",
        "{% for m in messages %}{{ raise_exception('never') }}{% endfor %}",
        "{% broken",
    ],
    ids=range(7),
)
def test_what_is_not_known_is_left_out(template):
    assert recognised(tokenizer(template)) is None
