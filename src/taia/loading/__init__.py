"""Between a folder and a live model: what transformers loads, and libraries kept quiet."""
