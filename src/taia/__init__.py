"""taia: fine-tune everything once; at inference, choose which updates to keep."""
