"""Matplotlib as every figure here is drawn: to a file, in vectors, the same bytes for the same numbers."""

from __future__ import annotations

from typing import Any


def pyplot() -> Any:
    """`matplotlib.pyplot`, loaded when something is to be drawn."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "whence"
    from matplotlib import pyplot

    return pyplot
