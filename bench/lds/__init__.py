"""The linear datamodeling score of every method on a small language model: see `__main__`."""
