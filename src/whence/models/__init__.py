"""Row 2: checkpoints."""
