"""``whence self``."""

from __future__ import annotations

from whence.cli import flags
from whence.cli.output import progress, show


def self_influence(
    run: flags.Run,
    /,
    *,
    model: flags.Model = None,
    train: flags.Train = None,
    damping: flags.Damping = None,
    top: flags.Top = None,
    units: flags.Units = None,
    settings: flags.Settings = None,
    json: flags.Json = False,
) -> None:
    """Rank training documents by their influence on themselves.

    How much the model's loss on a document would fall if it were trained on once
    more. What ranks high is what the model could not learn from the rest:
    mislabelled rows, noise, the unusual. Fits the curvature first where RUN has none.

    Example:
      whence self runs/toy --top 50
    """
    folder, chosen = flags.gather(run, settings, model=model, train=train, damping=damping, top=top)
    from whence.jobs.run import run as job

    with progress() as log:
        result = job(folder, chosen, log=log, stop_after="self", units=units)
    show(result, as_json=json)
