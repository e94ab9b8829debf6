"""Adapters on disk: read a PEFT adapter, keep a part of it, write a PEFT adapter."""
