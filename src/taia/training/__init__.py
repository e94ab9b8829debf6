"""Fine-tune all linear layers once."""
