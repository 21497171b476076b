"""``whence check``: what would make a run wrong, measured on the user's own model and first rows in seconds.

findings    a row a check: name, verdict, text, figure, advice; RUN/checks/check.json
rows        the first rows in memory, batched and padded as a check asks
trial       scores of those rows, as a run would make them
of_model · of_adapter · of_pairs · of_data · of_batches · of_dtype     the checks themselves
job         all of them, one after the other
"""

from whence.jobs.check.findings import Checks, Finding, read_checks
from whence.jobs.check.job import check

__all__ = ["Checks", "Finding", "check", "read_checks"]
