"""``whence value``."""

from __future__ import annotations

from whence.cli import examples, flags
from whence.cli.output import progress, show


def value(
    run: examples.Out,
    /,
    *,
    model: examples.Model = None,
    weights: examples.Weights = None,
    train: examples.Train = None,
    valid: examples.Valid = None,
    target: examples.Target = None,
    text: examples.Text = None,
    size: examples.Size = None,
    as_is: examples.AsIs = False,
    each: examples.Each = False,
    layers: examples.Layers = None,
    solver: flags.Solver = None,
    damping: flags.Damping = None,
    top: flags.Top = None,
    json: flags.Json = False,
) -> None:
    r"""Rank training examples by how much they help or harm on a validation set.

    For pictures, tables and labelled texts, and any torch model. A positive score
    means that training more on the example would lower the validation loss.
    Writes RUN/values.csv with every training example, and RUN/report.html.

    What the target is, is told by the model: with one output a quantity, with
    more a class. Classes are numbered in the order of their names, whole numbers
    by themselves.

    Examples:
      whence value runs/digits --model net.py:make --weights net.safetensors \
          --train digits/train-images-idx3-ubyte.gz --valid digits/t10k-images-idx3-ubyte.gz
      whence value runs/digits --valid 'digits/t10k-images-idx3-ubyte.gz#[7:8]' --each
      whence value runs/concrete --model net.py:make --weights net.safetensors \
          --train train.csv --valid valid.csv --target strength
    """
    chosen = examples.chosen(
        run,
        model=model,
        weights=weights,
        train=train,
        valid=valid,
        target=target,
        text=text,
        size=size,
        as_is=as_is,
        each=each,
        layers=layers,
        solver=solver,
        damping=damping,
        top=top,
    )
    from whence.jobs.valuation.job import values as job

    with progress() as log:
        result = job(run, chosen, log=log)
    show(result, as_json=json)
