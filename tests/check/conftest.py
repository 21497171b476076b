"""A tiny checkpoint, training text and adapters, shared with the tests of runs."""

from tests.cli.conftest import whence  # noqa: F401 (a fixture)
from tests.jobs.conftest import toy  # noqa: F401
from tests.lora.conftest import adapters  # noqa: F401
