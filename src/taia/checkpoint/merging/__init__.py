"""An adapter and its base, merged into a whole checkpoint."""
