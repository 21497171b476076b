"""Planted facts: how high each method ranks the documents that state them: ``python -m bench.planted``."""
