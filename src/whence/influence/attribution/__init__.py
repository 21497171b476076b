"""Where inside a document an influence arises: views of one score, one file each.

To add a view: one file, and a line in `ATTRIBUTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from whence.influence.attribution.input_tokens import input_tokens
from whence.influence.attribution.output_tokens import output_tokens

ATTRIBUTIONS: dict[str, Callable[..., Any]] = {"output_tokens": output_tokens, "input_tokens": input_tokens}

__all__ = ["ATTRIBUTIONS", "input_tokens", "output_tokens"]
