"""``edgeflow replay`` of a data folder: steps that fail, blocks that cannot be read, exit codes."""

from __future__ import annotations

import json
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
from click.testing import CliRunner, Result
from msgspec import structs

from edgeflow_agent.core.notice import notice
from edgeflow_agent.store.journal import Evicted, Journal
from edgeflow_agent.store.recording import Recording
from edgeflow_proto.bundle import MANIFEST_FILE
from edgeflow_proto.event import ROW_BITS, Block, Clock, Column, wall_time
from edgeflow_proto.rows import Rows
from edgeflow_proto.setup import NAME, Setup
from edgeflow_tools.bundles import bundle
from edgeflow_tools.cli import edgeflow
from edgeflow_tools.engine import Engine
from edgeflow_tools.pipelines import checked

PIPELINE = """
edgeflow: 1
name: press
inputs: {a: {mqtt: a, fields: [x], rate: 10 Hz, record: all}}
steps: {f: {from: a, python: own.f}}
outputs: {o: {from: f, event: o}}
"""
GOOD = "def f(rows):\n    return rows * 2\n"
BAD = "def f(rows):\n    raise ValueError('a bug in it')\n"
TOLD = "own.py:2: ValueError: a bug in it (50 rows dropped)"
ROWS, SECOND = 50, 10**9


def pipeline(folder: Path, code: str) -> Path:
    folder.mkdir()
    (folder / "own.py").write_text(code)
    (folder / "pipeline.yaml").write_text(PIPELINE)
    return folder / "pipeline.yaml"


def store(folder: Path, code: str = GOOD, rows: int = ROWS) -> Path:
    """Make the data folder of a device that recorded five seconds, ten rows a second."""
    manifest, files = bundle(checked(pipeline(folder / "source", code)))
    made = folder / "store"
    kept = made / "bundles" / manifest.digest
    kept.mkdir(parents=True)
    for name, data in {**files, MANIFEST_FILE: manifest.encode()}.items():
        (kept / name).write_bytes(data)
    recording = Recording(made / "recordings" / "press", 8 << 20)
    for first in range(0, rows, 10):
        recording.write([block(first, manifest.digest)])
    recording.close()
    (made / "journals").mkdir()
    return made


def block(first: int, digest: str) -> Rows:
    base = 1 << ROW_BITS
    return Rows(
        input="a", first=base + first, count=10, shape=(1,), dtype="float32", columns=("x",), digest=digest,
        clock=Clock("boot", 0, "synchronised"), values=struct.pack("<10f", *range(10)),
        t=struct.pack("<10q", *((first + i) * SECOND // 10 for i in range(10))),
        written_ns=(first + 10) * SECOND // 10, next={"a": base + first + 10},
    )  # fmt: skip


def replay(*arguments: object) -> Result:
    result = CliRunner().invoke(edgeflow, ["replay", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result


def figures(*arguments: object) -> tuple[int, dict[str, Any]]:
    result = replay(*arguments, "--json")
    return result.exit_code, json.loads(result.stdout)


def test_where_no_step_fails_all_is_well(tmp_path: Path) -> None:
    made = store(tmp_path)
    candidate = pipeline(tmp_path / "candidate", GOOD)
    code, found = figures(made, "--pipeline", candidate)
    assert (code, found["errors"]) == (0, {"own": {}, "candidate": {}})
    assert found["damaged"] == 0
    assert found["candidate"]["outputs"] == {"o": {"same": ROWS}}


def test_a_step_of_the_candidate_that_fails_is_named_with_its_error(tmp_path: Path) -> None:
    made = store(tmp_path)
    candidate = pipeline(tmp_path / "candidate", BAD)
    result = replay(made, "--pipeline", candidate)
    assert result.exit_code == 1
    assert f"the candidate failed in steps.f: {TOLD}" in result.output
    code, found = figures(made, "--pipeline", candidate)
    assert code == 1
    assert found["errors"] == {
        "own": {}, "candidate": {"f": {"error": "own.py:2: ValueError: a bug in it", "dropped": ROWS}},
    }  # fmt: skip


def test_so_is_one_of_the_pipeline_itself(tmp_path: Path) -> None:
    made = store(tmp_path, BAD)
    result = replay(made)
    assert result.exit_code == 1
    assert f"the pipeline failed in steps.f: {TOLD}" in result.output


class Broken(Rows, frozen=True, kw_only=True):
    """A block of which the disk gives back something else."""

    def encode(self) -> bytes:
        return super().encode()[:-1]


def test_blocks_that_cannot_be_read_are_left_out_and_that_is_told(tmp_path: Path) -> None:
    made = store(tmp_path)
    (digest,) = (path.name for path in (made / "bundles").iterdir())
    recording = Recording(made / "recordings" / "press", 8 << 20)
    for kind, first in ((Broken, ROWS), (Rows, ROWS + 10)):
        recording.write([kind(**structs.asdict(block(first, digest)))])
    recording.close()
    code, found = figures(made)
    assert (code, found["damaged"], found["rows"], found["holes"]) == (0, 1, ROWS + 10, 1)
    assert "left out: 1 block of the recording that cannot be read" in replay(made).output
    candidate = pipeline(tmp_path / "candidate", GOOD)
    assert figures(made, "--from", at(4.5), "--pipeline", candidate)[1]["damaged"] == 1


def journalled(made: Path, limit: int) -> None:
    """Write the journal that goes with it, of which a second takes more than a MiB."""
    (digest,) = (path.name for path in (made / "bundles").iterdir())
    clock, room = Clock("boot", 0, "synchronised"), {"room": "." * (700 << 10)}

    def set_up() -> Block:
        told = Setup(digest=digest, boot_id="boot", generations={"a": 1}, settings=room)
        return notice(NAME, "info", told.to_data(), clock, 0, digest)

    def gap(evicted: Evicted) -> Block:
        return notice("gap", "error", evicted.data, clock, 0, digest)

    journal = Journal(made / "journals" / "press", limit, set_up, gap)
    journal.commit([set_up()])
    for first in range(0, ROWS, 10):
        beside = notice("step.notice", "info", room, clock, 0, digest)
        journal.commit([said(block(first, digest), digest), beside, beside])
    journal.close()


def said(rows: Rows, digest: str) -> Block:
    """Return the events that the pipeline makes of a block."""
    values = struct.pack("<10f", *(2 * value for value in struct.unpack("<10f", rows.values)))
    spans = [each for row in range(rows.first, rows.end) for each in (row, row)]
    return Block(
        output="o", type="o", severity="info", count=10, clock=rows.clock, t=rows.t, pipeline_digest=digest,
        inputs=("a",), spans=struct.pack("<20q", *spans), data=(Column("f", "float32", (), values),),
        decided_ns=rows.written_ns,
    )  # fmt: skip


def test_what_the_budget_took_of_a_journal_is_not_gained(tmp_path: Path) -> None:
    made = store(tmp_path)
    journalled(made, 64 << 20)
    code, found = figures(made)
    assert (code, found["journal"]["outputs"], found["journal"]["open"]) == (0, {"o": {"same": ROWS}}, 0)
    shutil.rmtree(made / "journals" / "press")
    journalled(made, 6 << 20)
    code, found = figures(made)
    same = found["journal"]["outputs"]["o"]["same"]
    assert (code, found["journal"]["differences"]) == (0, [])
    assert 0 < same < ROWS
    assert found["journal"]["open"] == ROWS - same


def test_events_of_rows_that_are_not_recorded_are_counted(tmp_path: Path) -> None:
    made = store(tmp_path, rows=30)
    journalled(made, 64 << 20)
    code, found = figures(made)
    assert (code, found["rows"], found["journal"]["outputs"]) == (0, 30, {"o": {"same": 30}})
    assert found["journal"]["not_compared"] == {"not recorded": 20}
    assert "20 events of it are of rows that are not recorded" in replay(made).output
    code, found = figures(made, "--to", at(2.5))
    assert (found["rows"], found["journal"]["not_compared"]) == (20, {"not recorded": 0})


def at(seconds: float) -> str:
    return wall_time(round(seconds * SECOND))


def test_rows_that_only_lead_up_are_told_apart(tmp_path: Path) -> None:
    made = store(tmp_path)
    (manifest,) = (path.name for path in (made / "bundles").iterdir())
    state = Engine(checked(tmp_path / "source").graph, tmp_path / "source", "", {}).runtime.state()  # type: ignore[arg-type]
    recording = Recording(made / "recordings" / "press", 8 << 20)
    for first in range(ROWS, ROWS + 50, 10):
        recording.write([structs.replace(block(first, manifest), state=state if first == ROWS else b"")])
    recording.close()
    code, found = figures(made, "--from", at(8.5), "--out", tmp_path / "events")
    assert (code, found["rows"], found["leading_rows"]) == (0, 40, 20)
    assert len((tmp_path / "events").read_text().splitlines()) == 20
    assert (
        "40 rows run again, 20 of them only to lead up to --from, in"
        in replay(made, "--from", at(8.5)).output
    )


@pytest.mark.parametrize("moment", ["2999-01-01T00:00Z", "0s", at(5.5)])
def test_from_a_moment_behind_all_that_is_recorded_there_is_nothing_to_run(
    tmp_path: Path, moment: str
) -> None:
    result = replay(store(tmp_path), "--from", moment)
    assert (result.exit_code, "no rows are recorded from " in result.output) == (2, True), result.output


def test_that_there_were_no_events_is_told(tmp_path: Path) -> None:
    made = store(tmp_path, BAD)
    result = replay(made)
    assert "against its journal: no events" in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--from", "10s", "--to", "1h"], "is later than --to"),
        (["--param", "limit=3"], "it needs --pipeline"),
        (["--fail-on-difference"], "it needs --pipeline"),
        (["--tolerance", "-1"], "a number of 0 or more"),
        (["--tolerance", "nan"], "a number of 0 or more"),
        (
            ["--of", "nope"],
            "nothing is recorded of a pipeline 'nope'; say with --of whose recording is meant: press",
        ),
    ],
)
def test_what_is_asked_for_wrongly_is_told(tmp_path: Path, arguments: list[str], words: str) -> None:
    result = replay(store(tmp_path), *arguments)
    assert (result.exit_code, words in result.output) == (2, True), result.output


def test_a_candidate_that_cannot_be_run_is_no_difference(tmp_path: Path) -> None:
    made = store(tmp_path)
    broken = pipeline(tmp_path / "broken", GOOD)
    broken.write_text(PIPELINE.replace("python: own.f", "python: own.g"))
    unknown = pipeline(tmp_path / "candidate", GOOD)
    for arguments in (["--pipeline", broken], ["--pipeline", unknown, "--param", "limit=1"]):
        result = replay(made, *arguments)
        assert result.exit_code == 2, result.output


def test_ctrl_c_tells_what_there_is_so_far(tmp_path: Path) -> None:
    made = store(tmp_path)
    journalled(made, 64 << 20)
    (digest,) = (path.name for path in (made / "bundles").iterdir())
    recording = Recording(made / "recordings" / "press", 8 << 20)
    recording.write([structs.replace(block(ROWS, digest), written_ns=3600 * SECOND)])  # that nobody waits for
    recording.close()
    command = [sys.executable, "-m", "edgeflow_tools.cli", "replay", str(made), "--speed", "1x"]
    with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "1970-01-01T00:00:00.000000Z o: f=0.0\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "ended by Ctrl-C at rows of 1970-01-01T0" in out
    assert "against its journal:" in out
    assert "Ctrl-C again" in err


def test_what_a_pipeline_prints_is_told_apart_and_not_in_the_way(tmp_path: Path) -> None:
    talks = GOOD.replace(
        ":\n", ":\n    print('it has', len(rows))\n    for row in rows: print('and a row')\n"
    )
    made = store(tmp_path, talks)
    candidate = pipeline(tmp_path / "candidate", talks)
    result = replay(made, "--pipeline", candidate)
    assert "it has" not in result.stdout
    assert result.stderr.startswith("the pipeline prints: it has 10\nthe pipeline prints: and a row\n")
    assert "the candidate prints: it has 10\n" in result.stderr
    assert result.stderr.endswith("the pipeline printed 35 lines more\nthe candidate printed 35 lines more\n")
    assert figures(made)[1]["printed_lines"] == {"own": 55}
    (candidate.parent / "own.py").write_text("print('it is', end=' ')\nprint('loaded', end='')\n" + GOOD)
    assert "the candidate prints: it is loaded\n" in replay(made, "--pipeline", candidate).stderr


def test_an_input_of_another_rate_is_told(tmp_path: Path) -> None:
    made = store(tmp_path)
    candidate = pipeline(tmp_path / "candidate", GOOD)
    candidate.write_text(PIPELINE.replace("10 Hz", "20 Hz"))
    told = "inputs.a: rate 20 Hz, but 10 Hz is recorded; the rows come as they came"
    assert told in replay(made, "--pipeline", candidate).stderr


def deployed(made: Path, folder: Path, rows: int) -> None:
    """Put another version in the place of the one that is there, and record what it runs."""
    text = PIPELINE.replace("edgeflow: 1", "edgeflow: 1\ndescription: newer")
    source = pipeline(folder, GOOD)
    source.write_text(text)
    manifest, files = bundle(checked(source))
    shutil.rmtree(made / "bundles")
    kept = made / "bundles" / manifest.digest
    kept.mkdir(parents=True)
    for name, data in {**files, MANIFEST_FILE: manifest.encode()}.items():
        (kept / name).write_bytes(data)
    recording = Recording(made / "recordings" / "press", 8 << 20)
    for first in range(ROWS, ROWS + rows, 10):
        recording.write([block(first, manifest.digest)])
    recording.close()


def test_a_candidate_runs_alone_over_rows_of_versions_that_are_gone(tmp_path: Path) -> None:
    made = store(tmp_path)
    candidate = pipeline(tmp_path / "candidate", GOOD)
    deployed(made, tmp_path / "newer", 0)
    result = replay(made)
    assert (result.exit_code, "another version took its place; --pipeline" in result.output) == (2, True)
    code, found = figures(made, "--pipeline", candidate, "--out", tmp_path / "events")
    assert (code, found["rows"], found["journal"]) == (0, 0, None)
    assert found["alone"] == {"rows": ROWS, "leading_rows": 0, "left_out": 0, "outputs": {"o": ROWS}}
    assert len((tmp_path / "events").read_text().splitlines()) == ROWS
    told = f"the candidate alone, over {ROWS} rows that another version ran: o {ROWS}\n"
    assert replay(made, "--pipeline", candidate).stdout == told


def test_beside_a_newer_version_it_runs_alone_over_the_older_rows(tmp_path: Path) -> None:
    made = store(tmp_path)
    candidate = pipeline(tmp_path / "candidate", GOOD)
    deployed(made, tmp_path / "newer", 20)
    code, found = figures(made, "--pipeline", candidate, "--out", tmp_path / "events")
    assert (code, found["rows"], found["other_rows"], found["alone"]["outputs"]) == (0, 20, ROWS, {"o": ROWS})
    assert (found["candidate"]["outputs"], found["candidate"]["open"]) == ({"o": {"same": 20}}, 0)
    assert len((tmp_path / "events").read_text().splitlines()) == ROWS + 20
    assert f"left out: {ROWS} rows that another version of it ran" in replay(made).output


def test_older_rows_that_the_candidate_does_not_take_are_left_out(tmp_path: Path) -> None:
    made = store(tmp_path)
    candidate = pipeline(tmp_path / "candidate", GOOD)
    candidate.write_text(PIPELINE.replace("[x]", "[z]"))
    deployed(made, tmp_path / "newer", 0)
    result = replay(made, "--pipeline", candidate)
    assert result.exit_code == 2
    assert "no rows are recorded" in result.output
    assert "50 rows that another version ran: inputs.a: no column 'z' is recorded (x)" in result.output


def test_a_candidate_that_differs_can_be_a_failure(tmp_path: Path) -> None:
    made = store(tmp_path)
    same = pipeline(tmp_path / "same", GOOD)
    other = pipeline(tmp_path / "other", GOOD.replace("* 2", "* 3"))
    asked = ("--fail-on-difference", "--pipeline")
    assert [replay(made, *asked, file).exit_code for file in (same, other)] == [0, 1]
    assert replay(made, "--pipeline", other).exit_code == 0
    deployed(made, tmp_path / "newer", 0)  # nothing says that it is the same
    assert replay(made, *asked, same).exit_code == 1
