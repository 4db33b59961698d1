"""What the Python of a replayed pipeline prints: told whose it is, and no more of it than can be read."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator

from edgeflow_tools.terminal import note

SHOWN = 20  # lines that are shown; the others are counted


class Prints(io.TextIOBase):
    """Takes what is printed in place of standard output; its first lines go to standard error."""

    def __init__(self, whose: str) -> None:
        self._whose = whose
        self._begun = ""  # a line that has not ended
        self.count = 0

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Take what is printed meanwhile."""
        with contextlib.redirect_stdout(self):
            yield

    @contextlib.contextmanager
    def all_taken(self) -> Iterator[None]:
        """Take what is printed meanwhile, and nothing more behind that."""
        try:
            with self.taken():
                yield
        finally:
            self.end()

    def write(self, text: str) -> int:
        """Take text."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._line(line)
        return len(text)

    def end(self) -> None:
        """Take a line that has not ended as one, and say how many were not shown."""
        if self._begun:
            self.write("\n")
        if self.count > SHOWN:
            note(f"{self._whose} printed {self.count - SHOWN:,} lines more")

    def _line(self, line: str) -> None:
        self.count += 1
        if self.count <= SHOWN:
            note(f"{self._whose} prints: {line}")
