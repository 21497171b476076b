"""A package by declaration: Kronfluence installs a top-level ``tests`` of its own, which would be found first."""
