"""A simulated kernel clock for real processes: set at will, steps and reboots included (see clock.c)."""

from __future__ import annotations

import shutil
import struct
import subprocess
import time
import uuid
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "clock.c"
S = 10**9


class Clockwork:
    """The clock of one machine, which shows the true wall time only while it is set right."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            pytest.skip("no C compiler is here to build the simulated clock with")
        self._library = folder / "clock.so"
        command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(self._library), str(SOURCE), "-ldl"]
        subprocess.run(command, check=True, capture_output=True)
        self._file, self._boot_id = folder / "clock", folder / "boot_id"
        self.began = (
            time.time_ns() - _boottime()
        )  # what turns the machine's own boot time into true wall time
        self.boot()

    @property
    def prefix(self) -> list[str]:
        """The command that runs another one by this clock."""
        names = {"LD_PRELOAD": self._library, "TEST_CLOCK": self._file, "TEST_BOOT_ID": self._boot_id}
        return ["env", *(f"{name}={path}" for name, path in names.items())]

    def boot(self) -> None:
        """Begin anew in 1970, with a new boot id; nothing may be running by this clock."""
        self.booted = _boottime()
        self._boot_id.write_text(f"{uuid.uuid4()}\n")
        self._write(0, synchronised=False)

    @property
    def truth(self) -> int:
        """True wall time minus time since this boot, in ns."""
        return self.began + self.booted

    def synchronise(self, wrong: float = 0) -> None:
        """Let NTP set it right, to half a millisecond; by a server that is so many seconds wrong."""
        self._write(self.truth + int(wrong * S), synchronised=True)

    def step(self, seconds: float) -> None:
        """Set it wrong by so much, which clears the kernel's flag."""
        self._write(self.truth + int(seconds * S), synchronised=False)

    def _write(self, offset: int, *, synchronised: bool) -> None:
        data = struct.pack("<4q", self.booted, offset, synchronised, 500 if synchronised else 16_000_000)
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(data)


def _boottime() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
