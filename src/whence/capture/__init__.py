"""Row 3: one pass of a model, turned into layer traces as backward reaches each layer."""

from whence.capture.hooks import capture
from whence.capture.trace import LayerTrace, SharedInput

__all__ = ["LayerTrace", "SharedInput", "capture"]
