"""Wrong labels found, and training points that help or harm: ``python -m bench.mislabelled DATA``."""
