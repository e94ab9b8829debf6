"""What the paper compares with: L2, elastic weight consolidation, self-distillation."""
