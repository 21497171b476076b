"""Tables of numbers with a column to predict: a quantity, or a class.

table = read_table("concrete.csv", target="strength")
train, valid, test = table.split((0.7, 0.2, 0.1), seed=0)
standards = train.standards()
data = train.data(standards, batch_size=128)                 # a `Data`; valid and test with the same standards
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from whence.counted import counted
from whence.data.cells import Cells, read_cells
from whence.data.split import split
from whence.data.standards import Standards
from whence.data.tensors import TensorData
from whence.errors import DataError, InvalidSetting


@dataclass(frozen=True)
class Table:
    """Rows of numbers, in float64 and the units of the file."""

    columns: tuple[str, ...]
    """Names of the inputs."""
    inputs: Float[Tensor, "n i"]
    targets: Tensor
    """Quantities ``[n 1]``, or class numbers ``[n]``."""
    classes: tuple[str, ...]
    """What the class numbers stand for; empty where the target is a quantity."""
    names: tuple[str, ...]
    """Where each row is: ``concrete.csv, line 12``."""

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, rows: Sequence[int] | Tensor) -> Table:
        """Some rows, in the order given."""
        index = torch.as_tensor(rows, dtype=torch.int64)
        names = tuple(self.names[row] for row in index.tolist())
        return replace(self, inputs=self.inputs[index], targets=self.targets[index], names=names)

    def split(self, shares: Sequence[float], seed: int) -> tuple[Table, ...]:
        """Disjoint parts, as `data.split.split` draws them."""
        return tuple(self.take(rows) for rows in split(len(self), shares, seed))

    def standards(self) -> Standards:
        """Means and deviations of the inputs, and in the last place of a quantity to predict."""
        quantity = [] if self.classes else [self.targets]
        return Standards.of(torch.cat([self.inputs, *quantity], dim=1))

    def data(
        self,
        standards: Standards | None = None,
        *,
        standard_target: bool = True,
        batch_size: int = 32,
        dtype: torch.dtype = torch.float32,
    ) -> TensorData:
        """These rows as training data.

        Args:
            standards: What inputs are brought to: those of the training rows. None leaves them as they are.
            standard_target: Bring a quantity to the standards too. A loss ½‖h − y‖² takes its noise to be 1, which
                a target in its own units need not be near.

        Raises:
            InvalidSetting: If the standards are those of another table.
        """
        inputs, targets = self.inputs, self.targets
        if standards is not None:
            width = inputs.shape[1] + (not self.classes)
            if len(standards.mean) != width:
                raise InvalidSetting(
                    f"standards of {len(standards.mean)} columns for a table of {width}",
                    hint="take them from a table with the same columns and target",
                )
            i = inputs.shape[1]
            inputs = Standards(standards.mean[:i], standards.std[:i]).apply(inputs)
            if not self.classes and standard_target:
                targets = Standards(standards.mean[i:], standards.std[i:]).apply(targets)
        targets = targets if self.classes else targets.to(dtype)
        return TensorData(inputs.to(dtype), targets, batch_size=batch_size, names=self.names)


def read_table(
    path: Path | str, *, target: str | int = -1, classes: bool = False, drop: Sequence[str | int] = ()
) -> Table:
    """Read a table of numbers from ``.csv`` or ``.tsv`` (also gzipped), with a header or without.

    Args:
        target: The column to predict, by name or number; the last by default.
        classes: Whether the target is a class: any text, numbered in order (of value, where all are numbers).
        drop: Columns that are not inputs, as a patient's number.

    Raises:
        DataError: If a cell is not a finite number or a label is missing, naming line and column; if a column is not
            there; if no input is left.
    """
    cells = read_cells(path)
    wanted = cells.column(target)
    dropped = {cells.column(one) for one in drop}
    inputs = [number for number in range(len(cells.columns)) if number != wanted and number not in dropped]
    if not inputs:
        raise DataError(f"{path} has no column left to predict {cells.columns[wanted]!r} from")
    table = torch.tensor(
        [[_number(cells, row, c) for c in inputs] for row in range(len(cells.rows))], dtype=torch.float64
    )
    names = tuple(cells.name(row) for row in range(len(cells.rows)))
    columns = tuple(cells.columns[c] for c in inputs)
    if not classes:
        quantity = [[_number(cells, row, wanted)] for row in range(len(cells.rows))]
        return Table(columns, table, torch.tensor(quantity, dtype=torch.float64), (), names)
    labels = [row[wanted] for row in cells.rows]
    refuse_unlabelled(labels, cells.name, f"{path}: column {cells.columns[wanted]!r}")
    found, numbers = number_classes(labels)
    return Table(columns, table, numbers, found, names)


def number_classes(labels: Sequence[str]) -> tuple[tuple[str, ...], Tensor]:
    """Class names in order, and the number of each label: in order of value where all are numbers.

    Example:
        >>> number_classes(["10", "9", "10"])
        (('9', '10'), tensor([1, 0, 1]))
    """
    try:
        found = sorted(set(labels), key=float)
    except ValueError:
        found = sorted(set(labels))
    place = {label: number for number, label in enumerate(found)}
    return tuple(found), torch.tensor([place[label] for label in labels])


def refuse_unlabelled(labels: Sequence[str], name: Callable[[int], str], column: str) -> None:
    """Refuse labels that are not there: nothing at all, or what is written where a number is missing.

    Args:
        name: Where a row is.
        column: What holds the labels, and of which file.

    Raises:
        DataError: Naming the first row, and how many more there are.
    """
    missing = [row for row, label in enumerate(labels) if not _is_label(label)]
    if not missing:
        return
    if len(missing) == len(labels) > 1:
        raise DataError(f"{column} holds no label in any row", hint="name the labels' column with --target")
    first, others = missing[0], len(missing) - 1
    holds = f"holds {labels[first].strip()!r}, which is no label" if labels[first].strip() else "is empty"
    raise DataError(
        f"{name(first)} has no label: {column.partition(': ')[2]} {holds}"
        + (f", as in {counted(others, 'more row')}" if others else ""),
        hint="say which class it is of, or remove the row",
    )


def _is_label(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return bool(text.strip())


def _number(cells: Cells, row: int, column: int) -> float:
    text = cells.rows[row][column]
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(
            f"{cells.name(row)}: column {cells.columns[column]!r} holds {text!r}, not a number",
            hint="fill in or remove the row, or take the column out of the file",
        )
    return value
