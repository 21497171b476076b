"""Examples of any kind with a label each, told apart by what is there, and how a person is shown one of them.

digits/train-images-idx3-ubyte.gz     IDX pictures; the labels lie beside, …-labels-idx1-ubyte…
pets/                                 a folder of class folders of pictures
concrete.csv                          a table: numbers, and a column to predict
spam.csv, spam.jsonl                  texts with a class each (given a tokenizer)
spam.csv#[100:200]                    rows 100 to 199 of any of these
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from whence.counted import counted
from whence.data.images import ImageData, idx_images, image_folder
from whence.data.labelled import read_labelled
from whence.data.standards import Standards
from whence.data.tabular import read_table
from whence.data.tensors import TensorData
from whence.errors import DataError, InvalidSetting

Kind = Literal["pictures", "table", "texts"]
BATCH = 64


@dataclass(frozen=True)
class Examples:
    """Rows for a model to read, with what a person sees of them."""

    source: str
    kind: Kind
    data: TensorData
    classes: tuple[str, ...]
    """Class number → name; empty where the target is a quantity."""
    pixels: Tensor | None = None
    """``[n c h w]`` bytes."""
    columns: tuple[str, ...] = ()
    """A table's inputs, in the order of its cells."""
    cells: Tensor | None = None
    """``[n i]``, in the file's units."""
    texts: tuple[str, ...] = ()
    standards: Standards | None = None
    """What other examples are to be brought to; a quantity's stands last."""

    def __len__(self) -> int:
        return self.data.sequences

    @property
    def numbering(self) -> dict[str, int]:
        """Class name → number: what other examples of these classes are to be numbered by."""
        return {name: number for number, name in enumerate(self.classes)}

    def place(self, row: int) -> str:
        """Where a row is, told from the folder that was named."""
        root = _rows(self.source)[0]
        return self.data.name(row).removeprefix(f"{root if root.is_dir() else root.parent}/")

    def said(self, target: float) -> str:
        """A class number by its name; a quantity in the file's units."""
        if self.classes:
            return self.classes[int(target)]
        if self.standards is not None:
            target = target * float(self.standards.std[-1]) + float(self.standards.mean[-1])
        return f"{target:.6g}"

    def __str__(self) -> str:
        target = counted(len(self.classes), "class") if self.classes else "a quantity to predict"
        columns = f", {counted(len(self.columns), 'column')}" if self.columns else ""
        return (
            f"{self.source}: {counted(len(self), 'row' if self.kind == 'table' else self.kind[:-1])}{columns}, {target}"
        )


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How examples are to be read.

    Args:
        target: The column with the label or quantity, by name, or by number from 0: a table's last, a text's ``label``.
        text: The column with the text.
        size: Height and width that pictures are brought to; None asks for pictures of one size.
        channels: Colours of a picture, 3 or 1.
        as_is: Leave inputs in the file's units (pictures 0 … 1), rather than bring them to the standards.
        outputs: How many numbers the model says of an example, given a few inputs. With one, the target is a
            quantity; with more, a class.
        tokenize: Text → token ids; None where the model does not read text.
        longest: Tokens at which a text is cut.
        padding: The id that fills up shorter texts.
        numbering: Class name → number, where that is settled already.
        standards: Means and deviations of the training examples; taken from these when not given.
    """

    outputs: Callable[[Tensor], int]
    target: str | None = None
    text: str = "text"
    size: tuple[int, int] | None = None
    channels: int = 3
    as_is: bool = False
    tokenize: Callable[[str], Sequence[int]] | None = None
    longest: int | None = None
    padding: int = 0
    numbering: Mapping[str, int] | None = None
    standards: Standards | None = None

    def like(self, train: Examples) -> Reading:
        """For other examples, to be read as these were."""
        return replace(self, numbering=train.numbering if train.classes else None, standards=train.standards)


def read_examples(spec: str, reading: Reading) -> Examples:
    """Read pictures, a table or texts.

    Raises:
        DataError: If nothing is there, it is of no known kind, or a label is none of the known classes.
        InvalidSetting: If something was asked for that this kind of data does not have.
    """
    path, rows = _rows(spec)
    kind = kind_of(path, texts=reading.tokenize is not None)
    if kind == "pictures":
        found = _pictures(path, rows, reading)
    elif kind == "texts":
        found = _texts(path, rows, reading)
    else:
        found = _table(path, rows, reading)
    return replace(found, source=spec)


def kind_of(path: Path, *, texts: bool) -> Kind:
    """What lies at a path.

    Args:
        texts: Whether the model reads text: a ``.csv`` holds texts for one that does, and a table for another.

    Raises:
        DataError: If there is nothing, or something else.
    """
    name = path.name.lower().removesuffix(".gz")
    if path.is_dir() or (path.is_file() and _is_idx(path)):
        return "pictures"
    if not path.is_file():
        raise DataError(f"there is nothing at {path}", hint="give a file, or a folder of class folders of pictures")
    if name.endswith((".csv", ".tsv")):
        return "texts" if texts else "table"
    if name.endswith((".jsonl", ".parquet")):
        if not texts:
            raise DataError(f"{path} holds texts", hint="texts need a transformers sequence classifier as the model")
        return "texts"
    raise DataError(
        f"{path} is of no kind that is read here",
        hint="pictures (a folder of class folders, or IDX), a table (.csv, .tsv), or labelled texts",
    )


def _pictures(path: Path, rows: slice, reading: Reading) -> Examples:
    if reading.target is not None:
        raise InvalidSetting("target names a column, and pictures have none", hint="leave it out")
    images = _idx_of(path)
    plain = Standards(torch.zeros(reading.channels), torch.ones(reading.channels))  # of the rows that are meant, below
    if images is not None:
        if reading.size is not None:
            raise InvalidSetting("size is for folders of pictures", hint="IDX pictures are of one size: leave it out")
        labels = images.with_name(images.name.replace("images", "labels").replace("idx3", "idx1"))
        if labels == images or not labels.is_file():
            raise DataError(f"{images} has no labels beside it", hint=f"put them into {labels.name}")
        whole = idx_images(images, labels, standards=_grey(plain))
    else:
        whole = image_folder(path, size=reading.size, channels=reading.channels, standards=plain)
    count = reading.outputs(next(whole.gather([0])).inputs)
    given = [whole.classes[k] for k in whole.targets.tolist()]
    numbers, classes = _numbered(given, whole.name, reading, whole.classes, count, path)
    wanted = _meant(range(whole.sequences)[rows], whole.sequences, path)
    data = ImageData(
        whole.inputs[wanted.start : wanted.stop],
        numbers[wanted.start : wanted.stop],
        classes=classes,
        names=[whole.name(row) for row in wanted],
        standards=whole.standards if reading.as_is else reading.standards,
        batch_size=BATCH,
    )
    return Examples("", "pictures", data, classes, pixels=data.inputs, standards=data.standards)


def _grey(standards: Standards) -> Standards:
    """Those of one colour: IDX pictures are grey whatever the model may read."""
    return Standards(standards.mean[:1], standards.std[:1])


def _texts(path: Path, rows: slice, reading: Reading) -> Examples:
    assert reading.tokenize is not None
    target, text = _column(reading.target or "label"), _column(reading.text)
    whole = read_labelled(path, text=text, label=target)
    given = [whole.classes[k] for k in whole.labels.tolist()]
    some = whole.take(_meant(range(len(whole))[rows], len(whole), path))
    count = reading.outputs(torch.zeros(1, 1, dtype=torch.int64))
    numbers, classes = _numbered(given, lambda row: whole.names[row], reading, whole.classes, count, path)
    some = replace(some, labels=numbers[rows], classes=classes)
    data = some.data(reading.tokenize, longest=reading.longest, padding=reading.padding, batch_size=BATCH)
    return Examples("", "texts", data, classes, texts=some.texts)


def _meant(rows: range, count: int, path: Path) -> range:
    if not rows:
        raise DataError(
            f"{path} has {counted(count, 'example')}, and none of those that are meant", hint="write path#[a:b]"
        )
    return rows


def _table(path: Path, rows: slice, reading: Reading) -> Examples:
    target = -1 if reading.target is None else _column(reading.target)
    whole = read_table(path, target=target, classes=True)
    given = [whole.classes[k] for k in whole.targets.tolist()]
    wanted = _meant(range(len(whole))[rows], len(whole), path)
    count = reading.outputs(torch.zeros(1, whole.inputs.shape[1]))
    classes: tuple[str, ...] = ()
    if count > 1:
        numbers, classes = _numbered(given, lambda row: whole.names[row], reading, whole.classes, count, path)
        some = replace(whole, targets=numbers, classes=classes).take(wanted)
    else:
        some = read_table(path, target=target).take(wanted)
    standards = None if reading.as_is else reading.standards or some.standards()
    data = some.data(standards, batch_size=BATCH)
    return Examples("", "table", data, classes, columns=some.columns, cells=some.inputs, standards=standards)


def _numbered(
    given: Sequence[str],
    name: Callable[[int], str],
    reading: Reading,
    found: tuple[str, ...],
    outputs: int,
    path: Path,
) -> tuple[Tensor, tuple[str, ...]]:
    """Class numbers, and the names by number: as settled; else whole numbers below ``outputs`` are themselves.

    Raises:
        DataError: If a class is unknown, or classes and outputs cannot be told to be each other's.
    """
    numbering = reading.numbering
    if numbering is None and all(k.isdecimal() and int(k) < outputs for k in found):
        numbering = {str(k): k for k in range(outputs)}
        given = [str(int(label)) for label in given]
    if numbering is None:
        numbering = {label: number for number, label in enumerate(found)}
    for row, label in enumerate(given):
        if label not in numbering:
            known = ", ".join(list(numbering)[:6])
            raise DataError(f"{name(row)} is of class {label!r}, which is unknown", hint=f"known classes are: {known}")
    by_number = {number: label for label, number in numbering.items()}
    names = tuple(by_number.get(k, str(k)) for k in range(max(by_number) + 1))
    _refuse_other_classes(outputs, names, reading, path)
    return torch.tensor([numbering[label] for label in given]), names


def _refuse_other_classes(outputs: int, classes: Sequence[str], reading: Reading, path: Path) -> None:
    """As many classes as outputs; names are numbered by their order, which one that is missing would shift."""
    if len(classes) > outputs:
        raise DataError(
            f"{path} has {counted(len(classes), 'class')}, the model {counted(outputs, 'output')}",
            hint="a classifier has an output for each class",
        )
    if len(classes) < outputs and reading.numbering is None:
        raise DataError(
            f"{path} has {counted(len(classes), 'class')} ({', '.join(classes[:6])}), "
            f"the model {outputs} outputs: which output is whose cannot be told",
            hint="give examples of every class, or the classes' numbers, from 0, as labels",
        )


def _rows(spec: str) -> tuple[Path, slice]:
    """Path and rows. A file that is really called so wins over the grammar."""
    whole = Path(spec).expanduser()
    if whole.exists() or "#" not in spec:
        return whole, slice(None)
    match = re.fullmatch(r"(.+)#\[(\d*):(\d*)\]", spec)
    if match is None:
        raise DataError(f"{spec} is not a path with a range of rows", hint="write path#[a:b]")
    path, start, stop = match.groups()
    return Path(path).expanduser(), slice(int(start or 0), int(stop) if stop else None)


def _column(name: str) -> str | int:
    return int(name) if re.fullmatch(r"-?\d+", name) else name


def _is_idx(path: Path) -> bool:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        try:
            return file.read(4) == b"\0\0\x08\x03"
        except (OSError, EOFError):
            return False


def _idx_of(path: Path) -> Path | None:
    """The IDX file of pictures at a path or in a folder; None where there is none."""
    if path.is_file():
        return path
    found = sorted(file for file in path.glob("*idx3-ubyte*") if file.is_file() and _is_idx(file))
    if len(found) > 1:
        raise DataError(f"{path} holds several IDX files of pictures", hint=f"name one of them: {found[0]}")
    return found[0] if found else None
