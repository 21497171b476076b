"""The jobs: one file each, read top to bottom."""
