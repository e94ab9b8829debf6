"""Checkpoints and adapters on disk: read their headers, compose them, write the result."""
