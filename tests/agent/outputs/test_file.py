from __future__ import annotations

import csv
import json
import math
import resource
from pathlib import Path
from typing import Any

import pytest

from edgeflow_agent.core import board
from edgeflow_agent.core.clock import boottime_ns
from edgeflow_agent.core.messages import EffectRow
from edgeflow_agent.outputs.base import Account, OutputContext
from edgeflow_agent.outputs.file import FileOutput
from edgeflow_proto.pipeline.kinds.outputs import File
from edgeflow_proto.pipeline.units import Size


class Written:
    """A file output over a board of its own."""

    def __init__(self, folder: Path, path: str, **options: Any) -> None:
        self.path = folder / path
        self.slot = board.Board(board.create()).slot(1)
        account = Account("p", "o", self.slot)
        self.output = FileOutput(
            File(path=path, **options), OutputContext("p", "o", folder, account, None, None)
        )  # type: ignore[arg-type]

    def rows(self, *values: dict[str, Any]) -> None:
        """Carry out rows in one turn."""
        for i, data in enumerate(values):
            self.output.carry_out(EffectRow(i, boottime_ns(), "k", data))
        self.output.turn(boottime_ns())

    def count(self, name: str) -> int:
        return sum(value for key, value in self.slot.read().items() if key.startswith(name))

    def csv(self) -> list[dict[str, str]]:
        with self.path.open(newline="") as file:
            return [*csv.DictReader(file)]


def test_csv_has_a_header_once_over_restarts(tmp_path: Path) -> None:
    for value in (1.5, math.nan):
        written = Written(tmp_path, "sub/log.csv")
        written.rows({"x": value, "name": 'a "b", c'}, {"x": 2, "name": "line\nbreak"})
        written.output.close()
    found = written.csv()
    assert [row["x"] for row in found] == ["1.5", "2", "nan", "2"]
    assert [row["name"] for row in found] == ['a "b", c', "line\nbreak"] * 2
    assert {row["key"] for row in found} == {"k"}
    assert found[0]["time"].endswith("Z")
    assert written.count("effects_done_total") == 2


def test_csv_of_other_columns_is_put_aside(tmp_path: Path) -> None:
    for columns in ({"x": 1}, {"y": 1}, {"z": 1}):
        written = Written(tmp_path, "log.csv")
        written.rows(columns)
        written.output.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.1.csv", "log.2.csv", "log.csv"]
    assert "z" in written.csv()[0]
    assert (tmp_path / "log.1.csv").read_text().startswith("time,key,x\n")


def test_jsonl_has_an_object_a_line(tmp_path: Path) -> None:
    written = Written(tmp_path, "log.jsonl")
    written.rows({"x": 1.5}, {"x": math.nan, "values": [[1, 2], [3, 4]]})
    found = [json.loads(line) for line in written.path.read_text().splitlines()]
    assert [row["x"] for row in found] == [1.5, None]
    assert found[1]["values"] == [[1, 2], [3, 4]]
    assert {row["key"] for row in found} == {"k"}


def test_a_line_that_a_power_cut_left_is_ended_first(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"x": 1}\n{"x"')
    written = Written(tmp_path, "log.jsonl")
    written.rows({"x": 2})
    lines = written.path.read_text().splitlines()
    assert lines[:2] == ['{"x": 1}', '{"x"']
    assert json.loads(lines[2])["x"] == 2


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl"])
def test_what_does_not_fit_is_counted_no_line_is_cut_and_writing_heals(tmp_path: Path, name: str) -> None:
    written = Written(tmp_path, name)
    written.rows({"x": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))  # the file may not grow beyond 200 bytes
    try:
        written.rows(*({"x": i} for i in range(20)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert written.count("effects_dropped_total") == 20
    written.rows({"x": 2})
    assert written.count("effects_done_total") == 2
    assert len(written.path.read_text().splitlines()) == (3 if name.endswith("csv") else 2)


def test_a_full_disk_is_counted_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    written = Written(tmp_path, "log.jsonl")
    written.rows({"x": 1}, {"x": 2})
    assert written.count("effects_dropped_total") == 2
    (tmp_path / "log.jsonl").unlink()
    written.rows({"x": 3})
    assert json.loads(written.path.read_text())["x"] == 3


def test_a_file_that_is_taken_away_is_begun_anew(tmp_path: Path) -> None:
    written = Written(tmp_path, "log.csv")
    written.rows({"x": 1})
    written.path.rename(tmp_path / "rotated.csv")
    written.path.unlink(missing_ok=True)
    written.rows({"x": 2})  # still the same file under its new name
    (tmp_path / "rotated.csv").unlink()
    written.rows({"x": 3})
    assert [row["x"] for row in written.csv()] == ["3"]


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


@pytest.mark.parametrize("turns", [1, 4, 100])
@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_full_file_is_put_aside_and_the_oldest_go(tmp_path: Path, ending: str, turns: int) -> None:
    written = Written(tmp_path, f"log.{ending}", rotate=Size(4096), keep=3)
    count = 400
    for first in range(0, count, count // turns):
        written.rows(*({"x": number} for number in range(first, first + count // turns)))
    numbers = sorted(int(path.name.split(".")[1]) for path in tmp_path.glob(f"log.*.{ending}"))
    assert len(numbers) == 3
    files = [*(tmp_path / f"log.{number}.{ending}" for number in numbers), written.path]
    assert all(3900 < path.stat().st_size <= 4096 for path in files[:-1])
    if ending == "csv":
        found = [int(line.rpartition(",")[2]) for path in files for line in lines(path)[1:]]
        assert {lines(path)[0] for path in files} == {"time,key,x"}
    else:
        found = [json.loads(line)["x"] for path in files for line in lines(path)]
    assert found == [*range(found[0], count)]
    assert written.count("effects_files_removed_total") == numbers[-1] - 3
    assert written.count("effects_done_total") == count


def test_a_line_that_fits_into_no_file_has_one_for_itself(tmp_path: Path) -> None:
    written = Written(tmp_path, "log.jsonl", rotate=Size(4096))
    written.rows({"x": 1}, {"x": [0.5] * 2000}, {"x": 2})
    assert [len(lines(path)) for path in sorted(tmp_path.iterdir())] == [1, 1, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.1.jsonl", "log.2.jsonl", "log.jsonl"]


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    for name in ("log.old.jsonl", "log.01.jsonl", "other.1.jsonl", "log.1.csv"):
        (tmp_path / name).write_text("mine")
    written = Written(tmp_path, "log.jsonl", rotate=Size(4096), keep=1)
    for number in range(200):
        written.rows({"x": number})
    assert [path.name for path in sorted(tmp_path.iterdir()) if path.read_text() != "mine"][1:] == [
        "log.jsonl"
    ]
    assert len([path for path in tmp_path.iterdir() if path.read_text() == "mine"]) == 4
