"""What was measured, for people: tables, plots, an HTML report."""
