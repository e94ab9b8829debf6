"""From what a model writes to whether it is right."""
