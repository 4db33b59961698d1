"""What starting a process took and running it does not: let go of again.

Loading numpy, ONNX Runtime or gRPC runs code that is never run again, and its pages stay mapped. They are
clean pages of files, which the kernel may take back at any time, but on a device without swap it takes
others first. What is needed still is read from the page cache at the next touch.
Source: madvise(2), MADV_DONTNEED on a private mapping of a file; proc_pid_smaps(5).
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from pathlib import Path

_HEAD = re.compile(r"([0-9a-f]+)-([0-9a-f]+) r-.p \S+ \S+ \d+ +/")
_DONTNEED = 4
SETTLED_S = 5.0  # after which a process that loads as it goes has loaded what it needs
_LEAST = 64 << 10  # bytes; smaller mappings are not worth the call


def trim() -> None:
    """Unmap the pages of program files that nothing has written to; call it when all is loaded.

    Never raises: where the kernel has no such file or refuses, memory stays as it is.
    """
    libc = ctypes.CDLL(None)
    try:
        smaps = Path("/proc/self/smaps").read_text(errors="replace")
    except OSError:
        return
    for start, end in _untouched(smaps):
        libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _DONTNEED)


def _untouched(smaps: str) -> Iterator[tuple[int, int]]:
    """Yield the read-only mappings of files that hold no page of the process's own (relocated ones, say)."""
    head: re.Match[str] | None = None
    for line in smaps.splitlines():
        if "-" in line[:17]:
            head = _HEAD.match(line)
        elif head is not None and line.startswith("Anonymous:") and line.split()[1] == "0":
            start, end = int(head[1], 16), int(head[2], 16)
            if end - start >= _LEAST:
                yield start, end
