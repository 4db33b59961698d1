"""Logs of every process: short lines for people on standard error, whole records as JSON in the store.

Each call place may tell so much of each level and no more, so a flood fills neither, and one of a lower level
takes no room from errors. A disk that refuses disturbs nobody:
the newest lines wait for it, the others are counted. Source: sd-daemon(3) for the priorities on standard
error, systemd.exec(5) for JOURNAL_STREAM.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import TextIO

import msgspec

from edgeflow_agent.core import clock
from edgeflow_agent.core.board import Slot, labelled
from edgeflow_agent.core.errors import shortened
from edgeflow_agent.core.logfile import MAX_LINE, LogFile, pieces
from edgeflow_proto.event import ClockQuality, wall_time

BURST, REFILL_NS = 60, 10**9  # lines of one level and call place: so many at once, then one in so long
LONGEST = 4000  # characters of a message, and of the end of a traceback
_SHORT = 500  # where these take too many bytes
_MAX_PLACES = 1000
_TAIL = 64 << 10
_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (0, 7))  # syslog(3)
_OWN = "edgeflow.log"  # what has a rate of its own


class Keeping(msgspec.Struct, frozen=True):
    """Where logs are kept: a folder, its share in bytes, and which boot of those it knows this is."""

    folder: str
    share: int
    boot: int


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A record as it is kept, one line of JSON.

    ``(boot, boottime_ns)`` orders lines whatever the wall clock did; `time` is what it showed. `suppressed`
    is how many lines of its level were left out before it that the same place told.
    """

    time: str  # RFC 3339
    clock: ClockQuality
    boot: int
    boot_id: str
    boottime_ns: int
    level: str  # debug | info | warning | error | critical
    process: str
    pipeline: str = ""
    pid: int
    logger: str
    message: str
    traceback: str = ""
    suppressed: int = 0

    @property
    def order(self) -> tuple[int, int]:
        """What lines are sorted by."""
        return self.boot, self.boottime_ns


def encode(line: Line) -> bytes:
    """Return a line as JSON with its end, at most `MAX_LINE` bytes; long texts lose of their middle."""
    for longest in (LONGEST, _SHORT):
        texts = {name: _clipped(getattr(line, name), longest) for name in ("logger", "message", "traceback")}
        data = msgspec.json.encode(msgspec.structs.replace(line, **texts)) + b"\n"
        if len(data) <= MAX_LINE:
            break
    return data


def _clipped(text: str, longest: int) -> str:
    text = shortened(text, longest)
    return text.encode(errors="backslashreplace").decode()  # names of files may hold what UTF-8 does not


def boot_number(folder: Path) -> int:
    """Return which boot this is, counting on from the newest lines that the folder holds."""
    newest = {each.name: each.path for each in pieces(folder)}
    known = [line for path in newest.values() if (line := _last(path)) is not None]
    same = [line.boot for line in known if line.boot_id == clock.boot_id()]
    return max(same) if same else max((line.boot for line in known), default=0) + 1


def _last(path: Path) -> Line | None:
    """Return the last line of a piece that can be read."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
        for text in reversed(file.read().splitlines()):
            with contextlib.suppress(msgspec.MsgspecError):
                return msgspec.json.decode(text, type=Line)
    return None


_Place = tuple[str, int, int, str]  # file, line, level, pipeline


class Floods:
    """How much each call place may still tell: a token bucket per place, level and pipeline."""

    def __init__(self) -> None:
        self._rooms: dict[_Place, tuple[int, int]] = {}  # lines × REFILL_NS, and as of when
        self._left_out: dict[_Place, int] = {}
        self.suppressed = 0

    def admit(self, record: logging.LogRecord, now: int) -> int | None:
        """Return how many lines like it were left out before this one, ``None`` to leave it out too."""
        if record.name == _OWN:
            return 0
        place = (record.pathname, record.lineno, record.levelno // 10, _pipeline(record))
        room, since = self._rooms.get(place, (BURST * REFILL_NS, now))
        room = min(BURST * REFILL_NS, room + now - since)
        if len(self._rooms) >= _MAX_PLACES and place not in self._rooms:
            self._rooms.clear()
        self._rooms[place] = (room - REFILL_NS if room >= REFILL_NS else room, now)
        if room >= REFILL_NS:
            return self._left_out.pop(place, 0)
        self._left_out[place] = self._left_out.get(place, 0) + 1
        self.suppressed += 1
        return None


def _pipeline(record: logging.LogRecord) -> str:
    return str(getattr(record, "pipeline", ""))


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # a log call that is wrong must not harm what calls it
        return f"{record.msg} {record.args!r}"


def _trace(record: logging.LogRecord) -> str:
    if record.exc_info and record.exc_info[0] is not None:
        return "".join(traceback.format_exception(*record.exc_info))
    return record.exc_text or ""


def left_out(suppressed: int) -> str:
    """Return what is said behind a line before which others of its place and level were left out."""
    return f" ({suppressed} more from this place left out before)" if suppressed else ""


class Stderr:
    """Short lines for people; with priorities where the journal reads them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._journal = _is_journal(stream)

    def write(self, record: logging.LogRecord, suppressed: int) -> None:
        """Write a record; nobody may be there to read it."""
        text = f"{record.name}: {_message(record)}{left_out(suppressed)}\n{_trace(record)}".rstrip()
        if self._journal:
            priority = next(number for level, number in _PRIORITIES if record.levelno >= level)
            text = "\n".join(f"<{priority}>{line}" for line in text.splitlines())
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text + "\n")
            self._stream.flush()


def _is_journal(stream: TextIO) -> bool:
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


class Kept:
    """Keeps the lines of one process in the store."""

    def __init__(self, keeping: Keeping, process: str, pipeline: str, slot: Slot) -> None:
        name = f"{process}-{pipeline}" if pipeline else process
        self._file = LogFile(Path(keeping.folder), name, keeping.share)
        self._boot, self._process, self._pipeline = keeping.boot, process, pipeline
        counters = ("log_lines_total", "log_lines_lost_total", "log_lines_suppressed_total")
        self._lines, self._lost, self._suppressed = (
            slot.counter(labelled(name, process=process)) for name in counters
        )
        self._told = 0  # of those that the disk refused

    def write(self, record: logging.LogRecord, suppressed: int) -> None:
        """Keep a record, and behind it say what was lost while the disk refused."""
        error = self._file.error
        self._append(self._line(record, suppressed))
        if not self._file.error and self._file.lost > self._told:
            words = f"{self._file.lost - self._told} lines before these were not kept: {error}"
            self._told = self._file.lost
            lost = logging.LogRecord("edgeflow.logs", logging.WARNING, "", 0, words, None, None)
            self._append(self._line(lost, 0))

    def suppressed(self) -> None:
        """Count a line that was left out."""
        self._suppressed.add()

    def _append(self, line: Line) -> None:
        before = self._file.lost
        self._file.append(encode(line))
        self._lines.add()
        self._lost.add(self._file.lost - before)

    def _line(self, record: logging.LogRecord, suppressed: int) -> Line:
        now, boottime = clock.now(), clock.boottime_ns()
        return Line(
            time=wall_time(boottime + now.offset_ns), clock=now.quality, boot=self._boot, boot_id=now.boot_id,
            boottime_ns=boottime, level=record.levelname.lower(), process=self._process,
            pipeline=_pipeline(record) or self._pipeline, pid=os.getpid(), logger=record.name,
            message=_message(record), traceback=_trace(record), suppressed=suppressed,
        )  # fmt: skip


class Logs(logging.Handler):
    """The handler of everything that is logged in this process."""

    def __init__(self, stderr: Stderr) -> None:
        super().__init__()
        self._stderr = stderr
        self._floods = Floods()
        self.kept: Kept | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Tell people, and keep it."""
        suppressed = self._floods.admit(record, clock.boottime_ns())
        if suppressed is not None:
            self._stderr.write(record, suppressed)
        if self.kept is not None and suppressed is not None:
            self.kept.write(record, suppressed)
        elif self.kept is not None:
            self.kept.suppressed()


def begin() -> Logs:
    """Let this process log to standard error from now on, in place of what it logged to before."""
    logs = Logs(Stderr(sys.stderr))
    logging.basicConfig(level=logging.INFO, handlers=[logs], force=True)
    sys.excepthook = _unexpected
    return logs


def _unexpected(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("edgeflow").critical("ended by what nobody expected", exc_info=(kind, error, trace))


def keep(keeping: Keeping, process: str, slot: Slot, pipeline: str = "") -> None:
    """Keep in the store what this process logs from now on, and count it on the board.

    `pipeline` is whose all of it is, where it is one pipeline's.
    """
    for handler in logging.getLogger().handlers:
        if isinstance(handler, Logs):
            handler.kept = Kept(keeping, process, pipeline, slot)
