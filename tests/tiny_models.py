"""Tiny models and a tokenizer, made on the spot: no file, no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 260
CHAT = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "pad_token_id": 257,
}


def model(kind: str = "llama", *, spread: float = 0.3, **config: Any) -> Any:
    """A random causal language model with opinions: its logits are far from uniform."""
    settings = {"eos_token_id": 257, "bos_token_id": 256, "pad_token_id": 257, **config}
    torch.manual_seed(7)
    made = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(kind, **settings), dtype=torch.float32
    )
    for parameter in made.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=spread)
    made.tie_weights()
    return made.eval()


def llama(**config: Any) -> Any:
    return model("llama", **{**LLAMA, **config})


def tokenizer(chat: bool = True) -> Any:
    """A token per byte, and four of its own."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|im_start|>", "<|im_end|>", "<|a|>", "<|b|>"]
    vocabulary = {token: index for index, token in enumerate([*alphabet, *special])}
    assert len(vocabulary) == VOCABULARY
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(special)
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    if chat:
        made.chat_template = CHAT
    return made


def save_llama(folder: Path, **config: Any) -> Path:
    """A model folder, as a user would give it."""
    llama(**config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def lora(base: Any, **options: Any) -> Any:
    """The model with an adapter whose B is not zero."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=4, **options)
    torch.manual_seed(11)
    tuned = get_peft_model(base, config)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return tuned.eval()
