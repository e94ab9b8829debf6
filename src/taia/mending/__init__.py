"""What to keep of an update: how much it harms and teaches, and the selection that mends it."""
