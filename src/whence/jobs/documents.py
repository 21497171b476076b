"""Self-influence of documents: of the sum of their sequences' gradients, as a document's score is the sum of theirs.

    self(z) = (Σ_w g_w)ᵀ (G + λI)⁻¹ (Σ_w g_w)        w over the windows of a document longer than the context

Cross terms between windows are part of it, and |raw| ≤ √(self(query) · self(z)) holds because of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from whence.artifacts.fingerprint import settings_fingerprint
from whence.artifacts.folder import finished
from whence.artifacts.manifest import Manifest
from whence.artifacts.tensors import load_tensors
from whence.curvature import Curvature
from whence.data.store import TokenStore
from whence.errors import NumericalError
from whence.influence.self_influence import SelfInfluenceOfSum
from whence.jobs.log import Log
from whence.jobs.score import HINT, by_unit, selves
from whence.jobs.stream import device_of, likelihood_pass
from whence.types import Task
from whence.world import World


def document_self_influence(
    curvature: Curvature,
    store: TokenStore,
    *,
    model: nn.Module,
    task: Task,
    folder: Path | None = None,
    made_from: dict[str, str] | None = None,
    units: range | None = None,
    world: World | None = None,
    log: Log | None = None,
) -> Float[Tensor, " documents"] | None:
    """gᵀ (G + λI)⁻¹ g of every document, g summed over its sequences; None while units are missing.

    A document of several sequences is read with the unit of its first, so that each is still read once.
    """
    log, world = log or Log.silent(), world or World()
    one_batch, whole = selves(curvature, store, model, task), WholeDocuments(curvature, model, store, task)
    parts_of = np.bincount(store.document_of, minlength=store.documents)

    def of_unit(unit: int) -> dict[str, Tensor]:
        found: dict[int, float] = {}
        for batch in store.batches(unit):
            alone = parts_of[batch.document.numpy()] == 1
            # Packed sequences go through the model together, whichever of them are wanted.
            whole_batch = alone.all() or batch.layout is not None
            for part in [batch] if whole_batch else store.gather(batch.ids.numpy()[alone]):
                own = one_batch(part.to(device_of(model))).tolist()
                found |= {d: x for d, x in zip(part.document.tolist(), own, strict=True) if parts_of[d] == 1}
            first = np.searchsorted(store.document_of, batch.document.numpy()) == batch.ids.numpy()
            windowed = batch.document.numpy()[~alone & first].tolist()
            found |= {document: whole.self_influence(document) for document in windowed}
        documents = torch.tensor(list(found), dtype=torch.int64)
        return {"document": documents, "total": torch.tensor(list(found.values()), dtype=torch.float64)}

    settings = {**task.settings, "damping": str(curvature.damping), "curvature": curvature.name, "of": "documents"}
    inputs = {} if folder is None else {"curvature": curvature.fingerprint}
    parts = by_unit("self-influence", of_unit, store, model, folder, settings, made_from, inputs, units, world, log)
    return None if parts is None else _put_together(parts, store.documents)


def self_folder(run: Path, damping: object) -> Path:
    """Where a run keeps its documents' self-influence, of one damping."""
    return run / "self" / settings_fingerprint({"damping": str(damping)})[:12]


def read_self_influence(folder: Path, documents: int) -> Float[Tensor, " documents"] | None:
    """What `document_self_influence` left behind; None where it was never finished."""
    if not finished(folder):
        return None
    parts = [load_tensors(folder / name) for name in sorted(Manifest.read(folder, "self-influence").files)]
    return _put_together(parts, documents)


def _put_together(parts: Sequence[dict[str, Tensor]], documents: int) -> Float[Tensor, " documents"]:
    total = torch.zeros(documents, dtype=torch.float64)
    for part in parts:
        total[part["document"]] = part["total"]
    return total


class WholeDocuments:
    """Documents one at a time, whatever number of sequences each is read in."""

    def __init__(self, curvature: Curvature, model: nn.Module, store: TokenStore, task: Task) -> None:
        self.model, self.store, self.task = model, store, task
        self.layers = curvature.tracked(model)
        self.sink = SelfInfluenceOfSum(curvature, self.layers)

    def self_influence(self, document: int) -> float:
        """Of the summed gradient.

        Raises:
            NumericalError: If it is NaN or inf; names the document.
        """
        batches = list(self.store.gather(self.store.sequences_of(document)))
        self.sink.begin()
        for number, batch in enumerate(batches):
            self.sink.last = number == len(batches) - 1
            batch = batch.to(device_of(self.model))
            likelihood_pass(self.model, self.layers, self.task, batch, self.sink.update, data=self.store)
        if not bool(torch.isfinite(self.sink.total)):
            name = self.store.name(self.store.sequences_of(document)[0])
            raise NumericalError(f"the self-influence of {name} is NaN or inf", hint=HINT)
        return float(self.sink.total)
