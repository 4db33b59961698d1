"""What an author's code prints, as lines of the log."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from edgeflow_agent.core.logfile import MAX_LINE

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

log = logging.getLogger("edgeflow.print")
_OWN_FRAMES = 5  # from the logging of a line up to who printed it: each print has an allowance of its own


class Lines:
    """Bytes cut into lines as they come; empty ones are left out, overlong ones cut."""

    def __init__(self, tell: Callable[[str], object]) -> None:
        self._tell = tell
        self._rest = b""

    def add(self, data: bytes) -> None:
        """Tell whole lines; an unfinished one waits for its end."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._say(line)
        if len(self._rest) > MAX_LINE:
            self.end()

    def end(self) -> None:
        """Tell a line that has not ended."""
        rest, self._rest = self._rest, b""
        self._say(rest)

    def _say(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        if text:
            self._tell(text)


class _Printed(io.RawIOBase):
    """What is printed, as lines of a log."""

    def __init__(self, stream: TextIO, level: int) -> None:
        self._stream = stream
        self._level = level
        self._lines = Lines(self._log)
        self._busy = False

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """Return where libraries that are no Python write to."""
        return self._stream.fileno()

    def write(self, data: ReadableBuffer, /) -> int:
        """Log whole lines; an unfinished one waits for its end, or until it is flushed."""
        written = bytes(data)
        self._lines.add(written)
        return len(written)

    def flush(self) -> None:
        """Log a line that has not ended."""
        self._lines.end()

    def _log(self, text: str) -> None:
        if self._busy:  # logging itself complains
            self._stream.write(text + "\n")
            return
        self._busy = True
        try:
            log.log(self._level, "%s", text, stacklevel=_OWN_FRAMES)
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
