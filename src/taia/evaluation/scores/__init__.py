"""What a run found: results on disk, their statistics, and the summary of all."""
