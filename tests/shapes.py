"""Checks the tensor shapes in the package's annotations while tests run, and nothing but them.

jaxtyping's import hook hands every function of the package to `checked`, which gives beartype those annotations
that speak of array shapes. The rest (protocols, results of the type checker's own reasoning) is mypy's work, and
checking it at run time would need each of them to be checkable there.
"""

import re
from collections.abc import Callable
from types import FunctionType
from typing import Any, get_args

import jaxtyping
from beartype import beartype
from jaxtyping import AbstractArray

_jaxtyped = jaxtyping.jaxtyped


def jaxtyped(**more: Any) -> Callable[[Any], Any]:
    """``jaxtyping.jaxtyped``, for functions whose annotations speak of shapes.

    It would bind the arguments of every call of all the others too: half of the time of a test of many small calls.
    """
    decorate = _jaxtyped(**more)
    return lambda thing: thing if isinstance(thing, FunctionType) and not _speaks_of_shapes(thing) else decorate(thing)


def _speaks_of_shapes(function: FunctionType) -> bool:
    words = {word for hint in function.__annotations__.values() for word in re.findall(r"\w+", str(hint))}
    return any(_names_a_shape(function.__globals__.get(word)) for word in words)


def _names_a_shape(value: Any) -> bool:
    return str(getattr(value, "__module__", "")).startswith("jaxtyping") or _is_shape(value)


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
