"""``whence compare A B``: do two runs, checkpoints, dampings or dtypes rank the training data alike?

    sides     what is compared: the newest answers of each that share a question; how they were made
    matched   questions by what they say, documents by the hash of what they say
    job       rank agreement a question, and the documents that moved most      view   as text and as JSON

Read from the runs' folders: neither models nor training data need be there.
"""

from whence.jobs.compare.job import compare
from whence.jobs.compare.view import Comparison

__all__ = ["Comparison", "compare"]
