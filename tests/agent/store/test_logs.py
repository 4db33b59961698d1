"""Lines of several processes read as one sequence, while they write."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from edgeflow_agent.core.logfile import MIN_BYTES, LogFile, pieces
from edgeflow_agent.core.logs import Line, encode
from edgeflow_agent.store.logs import Query, Reader, dated, decode
from edgeflow_agent.store.logs import encode as text_of
from edgeflow_proto.event import wall_time
from edgeflow_proto.timeline import Boot, Sync, Timeline

S = 10**9
ALL = Query(limit=10**6)


class Process:
    """Writes lines as a process does; the time since boot is handed in."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name, _, self.pipeline = name.partition("-")
        self._file = LogFile(folder, name, MIN_BYTES)

    def say(self, message: str, t: int, *, boot: int = 1, wall: int = 0, level: str = "info") -> None:
        line = Line(
            time=wall_time(wall + t), clock="unsynchronised", boot=boot, boot_id=f"b{boot}", boottime_ns=t,
            level=level, process=self.name, pipeline=self.pipeline, pid=1, logger="x", message=message,
        )  # fmt: skip
        self._file.append(encode(line))


def said(found: list[tuple[Line, str]]) -> list[str]:
    return [line.message for line, _ in found]


def test_lines_come_in_the_order_they_were_written_whatever_the_wall_clock_did(tmp_path: Path) -> None:
    io, link, worker = (Process(tmp_path, name) for name in ("io", "link", "worker-watch"))
    io.say("first", 5 * S, wall=10**18)
    worker.say("second", 6 * S, wall=0)
    io.say("third", 7 * S, wall=-(10**18))
    link.say("after a reboot", 1 * S, boot=2, wall=5)
    io.say("last", 2 * S, boot=2)
    reader = Reader(tmp_path)
    order = ["first", "second", "third", "after a reboot", "last"]
    assert said(reader.newest(ALL).lines) == order
    assert said(reader.following({}, ALL).lines) == order
    assert said(reader.newest(Query(limit=2)).lines) == order[-2:]
    assert reader.names() == ["io", "link", "watch", "worker"]


def test_lines_are_chosen_by_name_level_and_time(tmp_path: Path) -> None:
    io, worker = Process(tmp_path, "io"), Process(tmp_path, "worker-watch")
    for second, level in enumerate(("info", "warning", "error", "critical", "Level 25")):
        io.say(f"io {level}", second * S, level=level)
        worker.say(f"watch {level}", second * S + 1, level=level)
    newest = Reader(tmp_path).newest
    assert said(newest(Query("watch", "error")).lines) == ["watch error", "watch critical"]
    assert said(newest(Query("worker", since=wall_time(3 * S))).lines) == ["watch critical", "watch Level 25"]
    assert len(newest(Query("io", "info")).lines) == 5
    assert newest(Query("nobody")).lines == []


@pytest.mark.parametrize("seed", range(5))
def test_whoever_follows_has_every_line_once(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    processes = [Process(tmp_path, name) for name in ("io", "link", "worker-a")]
    reader, t, heard = Reader(tmp_path), 0, []
    cursor = text_of(reader.newest(ALL).positions)
    for _ in range(60):
        for _ in range(chance.randrange(40)):
            t += 1
            chance.choice(processes).say(f"{t} {'x' * chance.randrange(900)}", t)
        if chance.random() < 0.1:
            processes[0] = Process(tmp_path, "io")
        page = reader.following(decode(cursor), Query(limit=chance.randrange(1, 60)))
        heard += said(page.lines)
        cursor = page.lines[-1][1] if page.lines and chance.random() < 0.5 else text_of(page.positions)
    heard += said(reader.following(decode(cursor), ALL).lines)
    assert sorted(int(text.split()[0]) for text in heard) == list(range(1, t + 1))
    assert len(pieces(tmp_path)) > 20
    assert said(reader.newest(Query(limit=50)).lines) == said(reader.newest(ALL).lines)[-50:]


def test_new_lines_follow_the_newest_without_a_gap(tmp_path: Path) -> None:
    io = Process(tmp_path, "io")
    io.say("old", 1)
    page = Reader(tmp_path).newest(ALL)
    io.say("new", 2)
    Process(tmp_path, "worker-late").say("late", 3)
    assert said(Reader(tmp_path).following(page.positions, ALL).lines) == ["new", "late"]


def test_torn_lines_are_left_out_and_counted_once(tmp_path: Path) -> None:
    io = Process(tmp_path, "io")
    io.say("whole", 1)
    path = pieces(tmp_path)[0].path
    with path.open("ab") as file:
        file.write(b'{"time": "20')
    reader = Reader(tmp_path)
    assert (said(reader.newest(ALL).lines), reader.newest(ALL).unreadable) == (["whole"], 0)
    with path.open("ab") as file:
        file.write(b"\0\0\n\xff\n")
    first = reader.following({}, ALL)
    assert (said(first.lines), first.unreadable) == (["whole"], 2)
    io.say("after", 2)
    second = reader.following(first.positions, ALL)
    assert (said(second.lines), second.unreadable) == (["after"], 0)
    assert reader.newest(ALL).unreadable == 2


@pytest.mark.parametrize(
    "harm",
    [
        ("00:00:00", "00:0q:00"),
        ("T00", "T99"),
        ("000000Z", "000000 "),
        ('"unsy', '"ansy'),
        ("1970-", "0000-"),
    ],
)
def test_a_byte_that_changed_costs_its_line_and_no_other(tmp_path: Path, harm: tuple[str, str]) -> None:
    io = Process(tmp_path, "io")
    for message in ("before", "harmed", "after"):
        io.say(message, 1)
    path = pieces(tmp_path)[0].path
    lines = path.read_text().splitlines(keepends=True)
    assert harm[0] in lines[1]
    path.write_text(lines[0] + lines[1].replace(*harm) + lines[2])
    for page in (Reader(tmp_path).newest(ALL), Reader(tmp_path).following({}, ALL)):
        assert (said(page.lines), page.unreadable) == (["before", "after"], 1)


def test_logs_that_were_removed_are_followed_from_their_new_beginning(tmp_path: Path) -> None:
    io = Process(tmp_path, "io")
    for t in range(100):
        io.say("x" * 900, t)
    reader = Reader(tmp_path)
    start = reader.end()
    for each in pieces(tmp_path):
        each.path.unlink()
    assert reader.following(start, ALL).positions == {}
    Process(tmp_path, "io").say("anew", 200)
    assert said(reader.following(start, ALL).lines) == ["anew"]


def test_lines_are_dated_by_what_is_known_of_the_clock_now(tmp_path: Path) -> None:
    io = Process(tmp_path, "io")
    io.say("in 1970", 10 * S)
    known = Sync(20 * S, 10**18, 10**6, "synchronised")
    reader = Reader(tmp_path, Timeline([Boot("b1", syncs=(known,))]))
    ((line, _),) = reader.newest(Query(since=wall_time(10**18))).lines
    assert (line.time, line.clock) == (wall_time(10**18 + 10 * S), "corrected")
    assert dated(line, Timeline()) is line


def test_lines_of_a_clock_that_was_synchronised_and_wrong_are_dated_anew(tmp_path: Path) -> None:
    years, today = 10 * 365 * 86400 * S, 10**18
    syncs = (Sync(1 * S, today + years, 10**6, "synchronised"), Sync(20 * S, today, 10**6, "synchronised"))
    timeline = Timeline([Boot("b1", syncs=syncs)])
    line = Line(
        time=wall_time(today + years + 10 * S), clock="synchronised", boot=1, boot_id="b1",
        boottime_ns=10 * S, level="info", process="io", pid=1, logger="x", message="m",
    )  # fmt: skip
    assert (dated(line, timeline).time, dated(line, timeline).clock) == (
        wall_time(today + 10 * S),
        "corrected",
    )
    right = msgspec.structs.replace(line, time=wall_time(today + S // 2 + 10 * S))
    assert dated(right, timeline) is right


def test_what_is_no_position_is_refused() -> None:
    assert decode(text_of({"io": (3, 400), "worker-a.b": (1, 0)})) == {"io": (3, 400), "worker-a.b": (1, 0)}
    for wrong in ("x", "io:1", "io:1:-1", "../io:1:2,", "io:1:2;", ",".join(["a:1:1"] * 2000)):
        with pytest.raises(ValueError, match="not a position"):
            decode(wrong)
