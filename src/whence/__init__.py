"""whence: which training data made this model do this, and where in the data and in the network?

    import whence as wh

    run = wh.run("runs/toy", model="models/toy", train="train.jsonl", query=wh.ask("Who wrote it?", "Ada did."))
    run.top(10)

    curvature = wh.fit(model, data, task=my_task)
    queries = wh.query_gradients(curvature, model, batches, task=my_task)
    scores = wh.score(curvature, queries, data, model=model, task=my_task)

Names are imported when first used, so that ``import whence`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

try:
    __version__ = version("whence")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

if TYPE_CHECKING:
    from whence.api import open as open  # noqa: A004
    from whence.api import run as run
    from whence.curvature import Curvature as Curvature
    from whence.data.queries import QueryBatch as QueryBatch
    from whence.data.queries import ask as ask
    from whence.data.tensors import TensorData as TensorData
    from whence.errors import WhenceError as WhenceError
    from whence.jobs.fit import fit as fit
    from whence.jobs.opened import Run as Run
    from whence.jobs.query import query_gradients as query_gradients
    from whence.jobs.score import Scores as Scores
    from whence.jobs.score import score as score
    from whence.jobs.score import self_influence as self_influence
    from whence.jobs.settings import RunSettings as RunSettings
    from whence.jobs.value import suspects as suspects
    from whence.jobs.value import value as value
    from whence.tasks import CausalLM as CausalLM
    from whence.tasks import Classification as Classification
    from whence.tasks import Regression as Regression
    from whence.types import Batch as Batch

_HOME = {
    "run": "whence.api",
    "open": "whence.api",
    "Run": "whence.jobs.opened",
    "ask": "whence.data.queries",
    "Curvature": "whence.curvature",
    "TensorData": "whence.data.tensors",
    "WhenceError": "whence.errors",
    "fit": "whence.jobs.fit",
    "QueryBatch": "whence.data.queries",
    "query_gradients": "whence.jobs.query",
    "Scores": "whence.jobs.score",
    "score": "whence.jobs.score",
    "self_influence": "whence.jobs.score",
    "RunSettings": "whence.jobs.settings",
    "suspects": "whence.jobs.value",
    "value": "whence.jobs.value",
    "CausalLM": "whence.tasks",
    "Classification": "whence.tasks",
    "Regression": "whence.tasks",
    "Batch": "whence.types",
}

__all__ = sorted([*_HOME, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'whence' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
