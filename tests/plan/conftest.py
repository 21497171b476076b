"""A clock that stands still: what a plan says of time is never tested, and trials need not be timed for the rest."""

import pytest

from whence.jobs.plan import machine, probe, sinks


@pytest.fixture(autouse=True, scope="package")
def _no_clock():
    """Trials that are only timed are left out; their size is then that of a machine which is quick enough for any."""
    at_once = lambda run, device, repeats=2: probe.Seconds(1e-6, 1e-6)  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        for module in (machine, sinks):
            patch.setattr(module, "timed", at_once)
        yield
