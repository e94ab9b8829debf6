"""What is written: files in place, whole or not at all, and the record of how they came to be."""
