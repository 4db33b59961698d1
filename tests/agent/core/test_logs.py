"""Records as lines of JSON and as lines for people, and floods of them."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from edgeflow_agent.core import board as boards
from edgeflow_agent.core import clock, logs, shm
from edgeflow_agent.core.board import Board
from edgeflow_agent.core.logfile import MAX_LINE, MIN_BYTES, pieces
from edgeflow_agent.core.logs import BURST, REFILL_NS, Floods, Keeping, Line, Logs, Stderr
from tests.support.small_disk import fill, small_disk

SLOT = 3


class Clock:
    now = 10**12

    def __call__(self) -> int:
        return self.now


class Kept:
    """A handler on a logger of its own, what it wrote, and its counters."""

    def __init__(self, folder: Path, pipeline: str = "") -> None:
        self.folder = folder
        self._fd = boards.create()
        self._slot = Board(self._fd).slot(SLOT)
        self.stderr = io.StringIO()
        handler = Logs(Stderr(self.stderr))
        handler.kept = logs.Kept(Keeping(str(folder), MIN_BYTES, 7), "worker", pipeline, self._slot)
        self._handler = handler
        self.log = logging.getLogger("edgeflow.test")
        self.log.propagate = False
        self.log.setLevel(logging.INFO)
        self.log.addHandler(handler)

    @property
    def lines(self) -> list[Line]:
        data = b"".join(each.path.read_bytes() for each in pieces(self.folder))
        return [msgspec.json.decode(line, type=Line) for line in data.splitlines()]

    def count(self, name: str) -> int:
        return self._slot.read()[f'log_lines{name}_total{{process="worker"}}']

    def close(self) -> None:
        self.log.removeHandler(self._handler)
        shm.close(self._fd)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path / "logs", "watch")
    yield made
    made.close()


def test_a_record_is_one_line_of_json(kept: Kept) -> None:
    before = clock.boottime_ns()
    try:
        raise KeyError("gain")
    except KeyError:
        kept.log.exception("step %s\nfails", "scaled")
    (line,) = kept.lines
    assert (line.level, line.process, line.pipeline, line.pid) == ("error", "worker", "watch", os.getpid())
    assert (line.logger, line.message) == ("edgeflow.test", "step scaled\nfails")
    assert line.traceback.startswith("Traceback (most recent call last):")
    assert line.traceback.endswith("KeyError: 'gain'\n")
    assert (line.boot, line.boot_id) == (7, clock.boot_id())
    assert before <= line.boottime_ns <= clock.boottime_ns()
    assert line.time.endswith("Z")
    assert line.clock == clock.now().quality
    assert kept.count("") == 1
    assert kept.stderr.getvalue().startswith("edgeflow.test: step scaled\nfails\nTraceback")


def test_a_line_says_of_which_pipeline_it_is(kept: Kept) -> None:
    kept.log.info("theirs", extra={"pipeline": "other"})
    assert [line.pipeline for line in kept.lines] == ["other"]


def test_any_text_becomes_a_line_that_can_be_read(kept: Kept) -> None:
    kept.log.info("\udce4" + "ä" * 10 + "\0" * 9000 + "end")
    kept.log.info("no error", exc_info=(None, None, None))
    first, second = kept.lines
    assert first.message.startswith("\\udce4ää")
    assert first.message.endswith("end")
    assert all(len(line) <= MAX_LINE for line in pieces(kept.folder)[0].path.read_bytes().splitlines())
    assert (second.message, second.traceback) == ("no error", "")


def test_a_flood_from_one_place_is_cut_and_counted(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    now = Clock()
    monkeypatch.setattr(clock, "boottime_ns", now)

    def flood(count: int) -> None:
        for number in range(count):
            kept.log.warning("again %d", number)

    flood(BURST + 40)
    kept.log.info("another place")
    assert len(kept.lines) == BURST + 1
    now.now += REFILL_NS
    flood(2)
    assert [line.suppressed for line in kept.lines[BURST:]] == [0, 40]
    assert kept.count("_suppressed") == 41
    assert "again 0 (40 more from this place left out before)\n" in kept.stderr.getvalue()


def test_a_flood_takes_no_room_from_lines_of_a_higher_level_of_the_same_place(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "boottime_ns", Clock())
    levels = [logging.INFO] * 10 * BURST + [logging.WARNING, logging.ERROR, logging.CRITICAL]
    levels += [logging.ERROR] * 10 * BURST + [logging.CRITICAL]
    for number, level in enumerate(levels):
        kept.log.log(level, "line %d", number)
    told = [line.level for line in kept.lines]
    counts = [told.count(level) for level in ("info", "warning", "error", "critical")]
    assert counts == [BURST, 1, BURST, 2]
    assert all(line.suppressed == 0 for line in kept.lines)


def test_floods_are_told_apart_by_pipeline_and_forget(kept: Kept) -> None:
    floods = Floods()

    def admitted(line: int, pipeline: str) -> int:
        record = logging.LogRecord("edgeflow.io", logging.INFO, "io.py", line, "text", None, None)
        record.pipeline = pipeline
        return sum(floods.admit(record, 0) is not None for _ in range(2 * BURST))

    assert [admitted(1, "a"), admitted(1, "b"), admitted(2, "a"), admitted(1, "a")] == [BURST] * 3 + [0]
    for line in range(3, 3000):  # there is no end of places, but of what is remembered
        admitted(line, "a")
    assert admitted(1, "a") == BURST


def test_what_the_disk_refused_is_told_once_it_takes_lines_again(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        kept = Kept(disk / "logs")
        kept.log.info("before")
        filler = fill(disk)
        for number in range(300):
            kept.log.log(logging.INFO + number % 2, "%s", "x" * 900, extra={"pipeline": f"p{number}"})
        lost = kept.count("_lost")
        assert lost > 150
        filler.unlink()
        kept.log.info("after")
        assert kept.lines[-2].message == "after"
        assert kept.lines[-1].message == f"{lost} lines before these were not kept: No space left on device"
        assert len(kept.lines) + lost == 303 == kept.count("")
        kept.close()


def test_boots_are_numbered_on(tmp_path: Path) -> None:
    assert logs.boot_number(tmp_path) == 1
    for name, boot, boot_id in (("a", 4, "x"), ("b", 6, "y"), ("c", 5, "z")):
        line = Line(
            time="", clock="unsynchronised", boot=boot, boot_id=boot_id, boottime_ns=1, level="info",
            process=name, pid=1, logger="", message="",
        )  # fmt: skip
        (tmp_path / f"{name}.1.jsonl").write_bytes(logs.encode(line) + b"torn")
    assert logs.boot_number(tmp_path) == 7
    (tmp_path / "b.2.jsonl").write_bytes(logs.encode(msgspec.structs.replace(line, boot_id=clock.boot_id())))
    assert logs.boot_number(tmp_path) == 5


PRINTING = """
import sys
from edgeflow_agent.core import board, logs, prints
logs.begin()
logs.keep(logs.Keeping(sys.argv[1], 4 << 20, 1), "worker", board.Board(board.create()).slot(3), "watch")
prints.take()
for number in range(1000):
    print("again", number)
print("once"); print("to stderr", file=sys.stderr, flush=True)
"""


def test_a_flood_of_one_print_takes_no_room_from_another(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", PRINTING, str(tmp_path)], check=True, stderr=subprocess.DEVNULL)
    (piece,) = pieces(tmp_path)
    lines = [msgspec.json.decode(line, type=Line).message for line in piece.path.read_bytes().splitlines()]
    assert BURST <= len(lines) < 1000
    assert lines[:BURST] == [f"again {number}" for number in range(BURST)]
    assert lines[-2:] == ["once", "to stderr"]


CHILD = """
import logging, os, sys
from edgeflow_agent.core import board, logs, prints
logs.begin()
keeping = logs.Keeping(sys.argv[1], 4 << 20, 1)
logs.keep(keeping, "worker", board.Board(board.create()).slot(3), "watch")
prints.take()
print("printed", 1); print("half", end="", flush=True); print("rest")
sys.stdout.buffer.write("bytes ä\\n".encode())
print("to stderr", file=sys.stderr)
os.write(sys.stderr.fileno(), b"from a library\\n")
logging.getLogger("edgeflow.worker").error("logged\\ntwice")
logging.getLogger("edgeflow.worker").info("%d", "wrong")
sys.stdout.write("no end"); sys.stdout.flush()
raise RuntimeError("unheard of")
"""


def run_child(folder: Path, stderr: int, **environment: str) -> list[Line]:
    command = [sys.executable, "-c", CHILD, str(folder)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=stderr, env={**os.environ, **environment}, check=False
    )
    assert (done.returncode, done.stdout) == (1, b"")
    (piece,) = pieces(folder)
    assert piece.name == "worker-watch"
    return [msgspec.json.decode(line, type=Line) for line in piece.path.read_bytes().splitlines()]


def test_what_a_process_prints_and_dies_of_is_in_its_log(tmp_path: Path) -> None:
    error = tmp_path / "stderr"
    with error.open("wb") as stderr:
        lines = run_child(tmp_path / "logs", stderr.fileno())
    said = [(line.logger.rpartition(".")[2], line.level, line.message) for line in lines]
    assert said == [
        ("print", "info", "printed 1"), ("print", "info", "half"), ("print", "info", "rest"),
        ("print", "info", "bytes ä"), ("print", "warning", "to stderr"),
        ("worker", "error", "logged\ntwice"), ("worker", "info", "%d ('wrong',)"),
        ("print", "info", "no end"), ("edgeflow", "critical", "ended by what nobody expected"),
    ]  # fmt: skip
    assert lines[-1].traceback.endswith("RuntimeError: unheard of\n")
    text = error.read_text()
    assert "edgeflow.print: printed 1\n" in text
    assert "\nfrom a library\n" in text
    assert not text.startswith("<")


def test_the_journal_is_told_priorities(tmp_path: Path) -> None:
    error = tmp_path / "stderr"
    with error.open("wb") as stderr:
        found = os.fstat(stderr.fileno())
        journal = f"{found.st_dev}:{found.st_ino}"
        run_child(tmp_path / "logs", stderr.fileno(), JOURNAL_STREAM=journal)
    text = error.read_text().splitlines()
    assert text[0] == "<6>edgeflow.print: printed 1"
    assert "<3>edgeflow.worker: logged" in text
    assert "<3>twice" in text
    assert text[-1] == "<3>RuntimeError: unheard of"
