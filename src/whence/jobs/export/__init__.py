"""``whence export``: a run's scores as a file that other software reads.

    table     a row a question and document, streamed from the run      files     Parquet, CSV, JSON lines
    data      the user's own data with a score column, by kind of file  saved     as `Dataset.save_to_disk` would
    job       from a request to either

Neither the model nor, for a table, the training data need be there any more.
"""

from whence.jobs.export.job import Exported, export

__all__ = ["Exported", "export"]
