"""What ``whence show`` shows: the first documents token by token, the layers, and how far a run is."""

from whence.jobs.show.job import Shown, show

__all__ = ["Shown", "show"]
