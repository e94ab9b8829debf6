"""Modes on one vLLM that taia starts, with a LoRA for each, checked before anything is scored."""
