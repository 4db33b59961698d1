"""Wear: bytes that reach the block device for each byte of events, by rate and by how often is committed.

On an ext4 of its own on a loop device, whose `/sys/block/…/stat` counts what is written (field 7, sectors
of 512 bytes). Events are of 220 bytes. Time is simulated: what matters is how many events a commit holds, and
that a copy of the state goes along once a minute. Against a plain SQLite journal (WAL, synced, the same
commits) and a file with one fdatasync per event. Needs root, for the loop device.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.common import Result, note
from edgeflow_agent.store.journal import Durable, Journal
from edgeflow_proto.event import Block, Clock, Column

EVENT_BYTES, FLOATS = 220, 49  # time and span take 24
RATES = (1, 10, 100, 1000)  # events a second
COMMITS = {"0.2 s": 0.2, "1 s (default)": 1.0, "10 s": 10.0}
MOST_COMMITS, SECONDS, STATE = 600, 300, 4096
CLOCK = Clock("00000000-0000-0000-0000-000000000000", 0, "synchronised")
Write = Callable[[Path, int, float], int]  # folder, events a second, seconds between commits → events


def _block(count: int) -> Block:
    data = (Column("score", "float32", (FLOATS,), os.urandom(4 * FLOATS * count)),)
    return Block(
        output="o", type="t", severity="info", count=count, clock=CLOCK, data=data, inputs=("accel",),
        t=struct.pack(f"<{count}q", *range(count)), spans=os.urandom(16 * count),
    )  # fmt: skip


def _lots(rate: int, every: float) -> Iterator[tuple[int, bool]]:
    """Yield how many events each commit holds, and whether a minute has passed."""
    done, minute = 0, 0
    for commit in range(1, min(MOST_COMMITS, int(SECONDS / every)) + 1):
        now = commit * every
        count = int(rate * now) - done
        if count:
            yield count, now // 60 > minute
            done, minute = done + count, int(now // 60)


def _ours(folder: Path, rate: int, every: float) -> int:
    journal, events = Journal(folder / "journal", 1 << 30), 0
    for serial, (count, minute) in enumerate(_lots(rate, every)):
        journal.commit([_block(count)], serial, Durable("digest", os.urandom(STATE)) if minute else None)
        events += count
    journal.close()
    return events


def _sqlite(folder: Path, rate: int, every: float) -> int:
    events = 0
    with contextlib.closing(sqlite3.connect(folder / "events.db", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, event BLOB)")
        for count, _ in _lots(rate, every):
            database.execute("BEGIN")
            rows = [(os.urandom(EVENT_BYTES),) for _ in range(count)]
            database.executemany("INSERT INTO events (event) VALUES (?)", rows)
            database.execute("COMMIT")
            events += count
    return events


def _each(folder: Path, rate: int, every: float) -> int:
    events = min(MOST_COMMITS, int(rate * every * MOST_COMMITS))
    with (folder / "events").open("ab", buffering=0) as file:
        for _ in range(events):
            file.write(os.urandom(EVENT_BYTES))
            os.fdatasync(file.fileno())
    return events


def _written(device: str) -> int:
    return int(Path(f"/sys/block/{device}/stat").read_text().split()[6]) * 512


@contextlib.contextmanager
def _disk() -> Iterator[tuple[Path, str]]:
    """Mount an ext4 of 512 MiB; raises OSError where that cannot be done."""
    with tempfile.TemporaryDirectory(prefix="edgeflow-wear-") as name:
        image, folder = Path(name) / "image", Path(name) / "disk"
        folder.mkdir()
        with image.open("wb") as file:
            file.truncate(512 << 20)
        settled = "lazy_itable_init=0,lazy_journal_init=0"
        _tool("mkfs.ext4", "-q", "-E", settled, str(image))
        device = _tool("losetup", "--find", "--show", str(image))
        try:
            _tool("mount", "-o", "noatime", device, str(folder))
            try:
                yield folder, Path(device).name
            finally:
                _tool("umount", str(folder))
        finally:
            _tool("losetup", "--detach", device)


def _tool(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout.strip()


def _per_byte(write: Write, rate: int, every: float) -> float:
    """Return bytes written to the device for each byte of events."""
    with _disk() as (folder, device):
        os.sync()
        before = _written(device)
        events = write(folder, rate, every)
        os.sync()
        return (_written(device) - before) / (events * EVENT_BYTES)


def measure() -> Iterator[Result]:
    """Yield bytes on the device per byte of events, for each rate and setting."""
    try:
        yield from _measured()
    except OSError as error:
        note(f"wear needs a loop device: {error}")


def _measured() -> Iterator[Result]:
    for rate in RATES:
        single = _per_byte(_each, rate, 1.0)
        for name, every in COMMITS.items():
            ours, lite = _per_byte(_ours, rate, every), _per_byte(_sqlite, rate, every)
            what = f"wear at {rate} events/s, a commit each {name}"
            yield Result(what, "SQLite WAL, the same commits", "bytes per byte", ours, lite)
        yield Result(f"wear at {rate} events/s", "one fdatasync per event alone", "bytes per byte", single)
