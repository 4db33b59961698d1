"""Who reads along while the plug is pulled: the real reading end, in its own process, telling what it saw.

Run as ``python -m tests.support.power.reader JOURNAL TOLD``; it reads until it is killed.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from edgeflow_agent.store.journal import JournalError
from edgeflow_agent.store.journal_reader import JournalReader
from tests.support.power.told import Read, tell

PAUSE_S = 0.001


def opened(path: Path) -> JournalReader:
    while True:
        try:
            return JournalReader(path)
        except JournalError:  # not begun yet
            time.sleep(PAUSE_S)


def main() -> None:
    reader, told, last = opened(Path(sys.argv[1])), Path(sys.argv[2]), 0
    while True:
        for first, count, _ in reader.read(last):
            last = first + count - 1
            tell(told, Read(last))
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    main()
