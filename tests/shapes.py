"""Checks the tensor shapes in the package's annotations while tests run, and nothing but them.

jaxtyping's import hook hands every function of the package to `checked`, which gives beartype those annotations
that speak of array shapes. The rest (protocols, results of the type checker's own reasoning) is mypy's work, and
checking it at run time would need each of them to be checkable there.
"""

from collections.abc import Callable
from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, raising where an argument or a result has not the shape or dtype it is annotated with."""
    shapes = {name: hint for name, hint in getattr(function, "__annotations__", {}).items() if _is_shape(hint)}
    if not shapes:
        return function
    function.__annotations__ = shapes
    return beartype(function)


def _is_shape(hint: Any) -> bool:
    """Whether a hint is, or holds, something like ``Float[Tensor, "n t"]``."""
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(_is_shape(part) for part in get_args(hint))
