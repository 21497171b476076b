"""Self-influence of every example, and whose label it makes suspect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from whence.counted import counted
from whence.curvature import Curvature
from whence.curvature.origin import Origin
from whence.errors import DataError, InvalidSetting
from whence.influence.topk import TopK
from whence.jobs.valuation.values import Suspects, suspects_of
from whence.jobs.views import View
from whence.report.notebook import Column
from whence.types import Data

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


class SelfInfluences:
    """gᵀ(G + λI)⁻¹g of every example, never negative; rows in the order of the data.

    A language model's rows longer than its context are several sequences, each with its own.
    """

    def __init__(self, values: Tensor, curvature: Curvature, data: Data, origin: Origin) -> None:
        self.values, self.curvature, self.data, self.origin = values, curvature, data, origin

    def __len__(self) -> int:
        return len(self.values)

    def numpy(self) -> NDArray[np.float64]:
        """The values, ``[n]``."""
        return np.asarray(self.values.detach().cpu().double().numpy())

    def to_arrow(self) -> pa.Table:
        """A line an example: its number, where it lies, its self-influence."""
        import pyarrow as pa

        names = [self.data.name(number) for number in range(len(self))]
        return pa.table({"example": np.arange(len(self)), "where": names, "self_influence": self.numpy()})

    def to_pandas(self) -> pd.DataFrame:
        """`to_arrow`, as a DataFrame."""
        return self.to_arrow().to_pandas()

    def top(self, n: int = 10) -> View:
        """The examples with the highest self-influence, highest first."""
        own = self.numpy()
        rows = [
            {"example": int(k), "where": self.data.name(int(k)), "self_influence": float(own[k])}
            for k in TopK.of(own, n).highest
        ]
        return View("Highest self-influence", [*_PLACE, _OWN], rows, value="self_influence")

    def suspects(self, labels: Sequence[Any] | Tensor | NDArray[Any] | None = None, n: int = 20) -> View:
        """The labels most likely wrong, most suspect first, beside what the model would say.

        Of classes there stands relative self-influence beside: the log of that at the given label over that at the
        suggested one, for which the examples are read once more.

        Args:
            labels: The given label of each example, as it should be shown; the data's own numbers when not given. The
                model is asked for another one, so it must still be there.

        Raises:
            DataError: If there are not as many labels as examples.
            InvalidSetting: If the task has no label an example (a language model), or the model is gone.
        """
        found = suspects_of(self.values, self.curvature, self.data, model=self.origin.model, task=self.origin.task)
        given = _listed(found.given if labels is None else labels)
        if len(given) != len(self):
            raise DataError(f"{len(given)} labels of {len(self)} examples", hint="give one an example, in their order")
        names = {} if found.probabilities is None else dict(zip(found.given.tolist(), given, strict=True))
        rows = [self._row(found, k, given[k], names) for k in found.top(n)]
        by = [] if found.relative is None else [Column("relative", "relative to suggested", "number")]
        columns = [*_PLACE, _OWN, *by, Column("given", "given", "word"), Column("suggested", "suggested", "word")]
        if found.probabilities is not None:
            columns += [Column("p_given", "p of given", "share"), Column("p_suggested", "p of suggested", "share")]
        return View("Most suspect labels", columns, rows, value="self_influence")

    def _row(self, found: Suspects, k: int, given: Any, names: dict[Any, Any]) -> dict[str, Any]:
        said = found.suggested[k].item()
        row = {
            "example": k,
            "where": self.data.name(k),
            "self_influence": float(found.self_influence[k]),
            **({} if found.relative is None else {"relative": float(found.relative[k])}),
            "given": given,
            "suggested": names.get(said, said),
        }
        if found.probabilities is not None:
            row |= {"p_given": float(found.probabilities[k, 0]), "p_suggested": float(found.probabilities[k, 1])}
        return row

    def __repr__(self) -> str:
        return f"SelfInfluences({counted(len(self), 'example')})"


_PLACE = [Column("example", "example", "count"), Column("where", "where", "text")]
_OWN = Column("self_influence", "self-influence", "number")


def _listed(labels: Any) -> list[Any]:
    if isinstance(labels, str):
        raise InvalidSetting("labels is one text", hint="give a label for each example")
    return list(labels.tolist() if isinstance(labels, Tensor | np.ndarray) else labels)
