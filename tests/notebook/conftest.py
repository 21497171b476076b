"""The miniature run of tests/jobs, here too."""

from tests.jobs.conftest import toy

__all__ = ["toy"]
