"""Flags of the commands on labelled examples: `whence value` and `whence self --labels`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from whence.errors import WhenceError


def _flag(text: str, shape: str | None = None) -> Parameter:
    return Parameter(help=text, metavar=shape, show_default=False, negative=())


Out = Annotated[Path, Parameter(help="Folder of the results; made when it is not there", name="RUN")]
Model = Annotated[
    str | None,
    _flag("A function that makes the model, FILE.py:FUNCTION (the file is run), or a sequence classifier", "MODEL"),
]
Weights = Annotated[str | None, _flag("Its weights, as safetensors; none where the function loads them", "FILE")]
Train = Annotated[
    str | None, _flag("Training examples: class folders of pictures, IDX, a table, or labelled texts", "DATA")
]
Valid = Annotated[str | None, _flag("Validation examples, of the same kind; DATA#[a:b] for some rows", "DATA")]
Target = Annotated[str | None, _flag("Column of the label or quantity: a table's last, a text's `label`", "COLUMN")]
Text = Annotated[str | None, _flag("Column of the text [default: text]", "COLUMN")]
Size = Annotated[str | None, _flag("Bring pictures of a folder to this height and width", "HxW")]
AsIs = Annotated[
    bool, _flag("Inputs in the file's units, not brought to mean 0 and deviation 1 of the training examples")
]
Layers = Annotated[
    list[str] | None,
    _flag("Layers to track: all, blocks, mlp, or globs on layer names; repeatable [default: all]", "GLOB"),
]
Each = Annotated[bool, _flag("Ask about each validation example by itself, not about their mean")]


def is_valuation(folder: Path) -> bool:
    """Whether a folder is one that `whence value` or `whence self --labels` made."""
    from whence.artifacts.manifest import Manifest
    from whence.jobs.valuation.folder import KIND

    try:
        return Manifest.read(folder).kind == KIND
    except WhenceError:  # whatever it is, the reader of runs says it better
        return False


def chosen(folder: Path, **given: Any) -> Any:
    """Settings from flags; what is not given comes from the folder's last run, then from the defaults."""
    from whence.jobs.valuation.settings import ValueSettings

    if given.get("damping") is not None:
        from whence.cli.flags import number

        given["damping"] = number(given["damping"])
    return ValueSettings.build(
        folder, {name: value for name, value in given.items() if value is not None and value is not False}
    )
