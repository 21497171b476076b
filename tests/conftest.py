"""What every test stands on: no network, a fixed number of threads, shapes checked.

The shapes in the package's annotations are checked by jaxtyping and beartype while tests run, at no cost in
use. That is switched on here rather than with ``--jaxtyping-packages`` so that it can be left out:
``WHENCE_TEST_SHAPES=0 pytest`` is what to try when a traceback is hard to read.
"""

import os

# Before torch is imported by anything. One thread a process, on purpose: results are promised bit-identical for one
# thread count, models here are too small for a second thread to help, and the suite runs in two processes.
THREADS = os.environ.get("OMP_NUM_THREADS") or "1"
os.environ["OMP_NUM_THREADS"] = THREADS
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

if os.environ.get("WHENCE_TEST_SHAPES", "1") != "0":
    import jaxtyping
    from jaxtyping import install_import_hook

    from tests.shapes import checked, jaxtyped

    jaxtyping.jaxtyped = jaxtyped
    install_import_hook("whence", f"{checked.__module__}.{checked.__name__}")  # it wants a name, not a function

import hypothesis
import pytest
import torch

from tests.browsing import browser, visit

__all__ = ["browser", "visit"]

torch.set_num_threads(int(THREADS))

# Examples are few and inputs small, so that a law costs seconds; no deadline, because machines are shared.
hypothesis.settings.register_profile("whence", deadline=None, print_blob=True)
hypothesis.settings.load_profile("whence")


@pytest.fixture(autouse=True)
def _nothing_left_behind():
    """A test that seeds the global generator or changes the default dtype must not decide what the next one sees."""
    dtype, state = torch.get_default_dtype(), torch.get_rng_state()
    yield
    torch.set_default_dtype(dtype)
    torch.set_rng_state(state)
