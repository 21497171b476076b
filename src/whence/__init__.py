"""whence: which training data made this model do this, and where in the data and in the network?

    import whence as wh

    run = wh.run("runs/toy", model="models/toy", train="train.jsonl", query=wh.ask("Who wrote it?", "Ada did."))
    run.top(10)

    curvature = wh.fit(model, data, task=my_task)
    scores = wh.score(curvature, queries, data)
    wh.self_influence(curvature, data).suspects(labels)

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
    from whence.api.data import as_data as as_data
    from whence.api.fitted import fit as fit
    from whence.api.fitted import plan as plan
    from whence.api.fitted import query_gradients as query_gradients
    from whence.api.fitted import score as score
    from whence.api.fitted import self_influence as self_influence
    from whence.api.fitted import suspects as suspects
    from whence.api.fitted import value as value
    from whence.api.runs import open as open  # noqa: A004
    from whence.api.runs import run as run
    from whence.api.selves import SelfInfluences as SelfInfluences
    from whence.api.trainer import Trained as Trained
    from whence.api.trainer import from_trainer as from_trainer
    from whence.curvature import Curvature as Curvature
    from whence.data.queries import QueryBatch as QueryBatch
    from whence.data.queries import ask as ask
    from whence.data.tensors import TensorData as TensorData
    from whence.errors import WhenceError as WhenceError
    from whence.jobs.opened import Document as Document
    from whence.jobs.opened import Run as Run
    from whence.jobs.scored import Scores as Scores
    from whence.jobs.settings import RunSettings as RunSettings
    from whence.jobs.views import TokenView as TokenView
    from whence.jobs.views import View as View
    from whence.tasks import CausalLM as CausalLM
    from whence.tasks import Classification as Classification
    from whence.tasks import Regression as Regression
    from whence.types import Batch as Batch

_HOME = {
    "run": "whence.api.runs",
    "open": "whence.api.runs",
    "as_data": "whence.api.data",
    "fit": "whence.api.fitted",
    "query_gradients": "whence.api.fitted",
    "score": "whence.api.fitted",
    "self_influence": "whence.api.fitted",
    "suspects": "whence.api.fitted",
    "value": "whence.api.fitted",
    "plan": "whence.api.fitted",
    "Run": "whence.jobs.opened",
    "Document": "whence.jobs.opened",
    "View": "whence.jobs.views",
    "TokenView": "whence.jobs.views",
    "Trained": "whence.api.trainer",
    "from_trainer": "whence.api.trainer",
    "SelfInfluences": "whence.api.selves",
    "ask": "whence.data.queries",
    "Curvature": "whence.curvature",
    "TensorData": "whence.data.tensors",
    "WhenceError": "whence.errors",
    "QueryBatch": "whence.data.queries",
    "Scores": "whence.jobs.scored",
    "RunSettings": "whence.jobs.settings",
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
