"""The demonstration: one command from nothing to the table of modes."""
