"""lm-evaluation-harness with a model that has modes."""
