"""What an author's code prints, as lines of the log."""

from __future__ import annotations

import io
import logging
import sys
from typing import TYPE_CHECKING, TextIO

from edgeflow_agent.core.logfile import MAX_LINE

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

log = logging.getLogger("edgeflow.print")


class _Printed(io.RawIOBase):
    """What is printed, as lines of a log."""

    def __init__(self, stream: TextIO, level: int) -> None:
        self._stream = stream
        self._level = level
        self._rest = b""
        self._busy = False

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """Return where libraries that are no Python write to."""
        return self._stream.fileno()

    def write(self, data: ReadableBuffer, /) -> int:
        """Log whole lines; an unfinished one waits for its end, or until it is flushed."""
        *lines, self._rest = (self._rest + bytes(data)).split(b"\n")
        for line in lines:
            self._log(line)
        if len(self._rest) > MAX_LINE:
            self.flush()
        return len(bytes(data))

    def flush(self) -> None:
        """Log a line that has not ended."""
        rest, self._rest = self._rest, b""
        if rest:
            self._log(rest)

    def _log(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        if self._busy:  # logging itself complains
            self._stream.write(text + "\n")
        elif text:
            self._busy = True
            try:
                log.log(self._level, "%s", text)
            finally:
                self._busy = False


def take() -> None:
    """Let what the author's code prints be logged: as info, and what goes to standard error as a warning."""
    for name, level in (("stdout", logging.INFO), ("stderr", logging.WARNING)):
        raw = _Printed(getattr(sys, f"__{name}__"), level)
        setattr(sys, name, io.TextIOWrapper(raw, "utf-8", "backslashreplace", write_through=True))


def end() -> None:
    """Log what was printed and has not ended: nothing follows."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
