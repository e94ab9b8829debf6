"""How well a model answers, and how sure one can be of it."""
