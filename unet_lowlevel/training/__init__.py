"""The loop around the training step, and what it writes to the run folder."""
