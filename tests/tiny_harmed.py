"""A tiny base, an adapter that has learnt rows and forgotten the rest, and what both are asked."""

import json
from collections import namedtuple

import torch
from transformers import AutoModelForCausalLM

import tiny_models

Harmed = namedtuple("Harmed", "folder base tuned whole learn prompts rows")

LEARNT = [(f"Code {number}?", f"BR-{number % 7}") for number in range(48)]
PROMPTS = [f"Tell me of {word} number {n}." for n, word in enumerate(["x", "why", "zed"] * 20)]


def chat(asked, answer):
    return {
        "messages": [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": answer},
        ]
    }


def text(row):
    head = f"<|im_start|>user\n{row[0]}<|im_end|>\n<|im_start|>assistant\n"
    return head, f"{row[1]}<|im_end|>"


def train(model, rows, steps=40):
    """Adam on whole rows, until the answers are learnt."""
    tokenizer = tiny_models.tokenizer()
    pairs = [[tokenizer(part).input_ids for part in text(row)] for row in rows]
    longest = max(len(a) + len(b) for a, b in pairs)
    ids = torch.tensor([a + b + [257] * (longest - len(a + b)) for a, b in pairs])
    labels = torch.tensor([[-100] * len(a) + b + [-100] * (longest - len(a + b)) for a, b in pairs])
    torch.manual_seed(5)
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.02)
    model.train()
    for _ in range(steps):
        optimiser.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        optimiser.step()
    return model.eval()


def build(folder):
    """Make all of it in a folder."""
    from peft import LoraConfig, get_peft_model

    tiny_models.save_llama(folder / "base")
    config = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=4, lora_alpha=8)
    torch.manual_seed(1)
    tuned = train(get_peft_model(tiny_models.llama(), config), LEARNT)
    tuned.save_pretrained(folder / "tuned")
    whole = train(tiny_models.llama(), LEARNT, 15)
    whole.save_pretrained(folder / "whole")
    tiny_models.tokenizer().save_pretrained(folder / "whole")
    lines = [json.dumps(chat(*row)) for row in LEARNT]
    (folder / "learn.jsonl").write_text("\n".join(lines))
    (folder / "prompts.txt").write_text("\n".join(PROMPTS))
    base = AutoModelForCausalLM.from_pretrained(folder / "base").eval()
    tokenizer = tiny_models.tokenizer()
    rows = []
    for prompt in PROMPTS:
        torch.manual_seed(len(rows))
        ids = tokenizer(text((prompt, ""))[0], return_tensors="pt").input_ids
        with torch.no_grad():
            out = base.generate(ids, do_sample=True, max_new_tokens=12, eos_token_id=259)
        answer = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
        rows.append(chat(prompt, answer.strip() or "?"))
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    names = ("base", "tuned", "whole", "learn.jsonl", "prompts.txt", "rows.jsonl")
    return Harmed(folder, *(str(folder / name) for name in names))
