"""Row 6: how good the answers are, where the right answer is known."""

from whence.evaluate.recall import Interval, Recalled, RecallTable, bootstrap, found_within, recall_at, recall_table

__all__ = ["Interval", "RecallTable", "Recalled", "bootstrap", "found_within", "recall_at", "recall_table"]
