"""``whence fit``."""

from __future__ import annotations

from whence.cli import flags
from whence.cli.output import progress, show


def fit(
    run: flags.Run,
    /,
    *,
    model: flags.Model = None,
    adapter: flags.Adapter = None,
    params: flags.Params = None,
    train: flags.Train = None,
    column: flags.Column = None,
    pack: flags.Pack = None,
    layers: flags.Layers = None,
    curvature: flags.Curvature = None,
    labels: flags.Labels = None,
    samples: flags.Samples = None,
    dtype: flags.Dtype = None,
    seed: flags.Seed = None,
    memory: flags.Memory = None,
    units: flags.Units = None,
    settings: flags.Settings = None,
    json: flags.Json = False,
) -> None:
    """Fit the curvature of the training loss into RUN/curvature.

    The training set is read once for each stage: EK-FAC has two, moments and then
    eigenvalues. An interrupted fit continues when given the same RUN, and the
    result is the same to the last bit. With --units, many machines share a fit
    with no communication but the folder; run it once more to put it together.

    Examples:
      whence fit runs/toy --model models/toy --train train.jsonl
      whence fit runs/toy --units 0:40
    """
    folder, chosen = flags.gather(
        run,
        settings,
        model=model,
        adapter=adapter,
        params=params,
        train=train,
        column=column,
        pack=pack,
        layers=layers,
        curvature=curvature,
        labels=labels,
        samples=samples,
        dtype=dtype,
        seed=seed,
        memory=memory,
    )
    from whence.jobs.run import run as job

    with progress() as log:
        result = job(folder, chosen, log=log, stop_after="fit", units=units)
    show(result, as_json=json)
