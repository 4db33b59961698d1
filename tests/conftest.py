"""What tests of every package share: where the outside material and the outside programs are."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # for what is started: an installed agent has its bytecode

# A shell that runs the tests in the background lets them, and all that they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


MAX_DESCRIPTORS = (
    700  # open in this process: select(2), which MQTT clients wait with, takes none from 1024 on
)


@pytest.fixture(autouse=True)
def _few_descriptors() -> Iterator[None]:
    """Tests close what they open: a leak would break whichever test comes long after."""
    yield
    descriptors = len(os.listdir("/proc/self/fd"))
    assert descriptors < MAX_DESCRIPTORS, f"{descriptors} descriptors are open: tests leave theirs behind"


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Recordings, models and protocol vectors that are no part of the project; a README says what is what."""
    path = Path(os.environ.get("EDGEFLOW_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no test data at {path} (set EDGEFLOW_TEST_DATA)")
    return path


@pytest.fixture(scope="session")
def mosquitto() -> Path:
    """The broker's program, to be started on a free port of the loopback interface."""
    # Debian puts it where only root's PATH looks.
    path = shutil.which("mosquitto", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin")
    if path is None:
        pytest.skip("mosquitto is not installed (Debian package mosquitto)")
    return Path(path)
