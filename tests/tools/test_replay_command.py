"""``edgeflow replay`` of a data folder: steps that fail, blocks that cannot be read, exit codes."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from msgspec import structs

from edgeflow_agent.store.recording import Recording
from edgeflow_proto.bundle import MANIFEST_FILE
from edgeflow_proto.event import ROW_BITS, Clock
from edgeflow_proto.rows import Rows
from edgeflow_tools.bundles import bundle
from edgeflow_tools.cli import edgeflow
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


def store(folder: Path, code: str = GOOD) -> Path:
    """Make the data folder of a device that recorded five seconds."""
    manifest, files = bundle(checked(pipeline(folder / "source", code)))
    made = folder / "store"
    kept = made / "bundles" / manifest.digest
    kept.mkdir(parents=True)
    for name, data in {**files, MANIFEST_FILE: manifest.encode()}.items():
        (kept / name).write_bytes(data)
    recording = Recording(made / "recordings" / "press", 8 << 20)
    for first in range(0, ROWS, 10):
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
    assert found["damaged"] is False
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
    assert (code, found["damaged"], found["rows"], found["holes"]) == (0, True, ROWS + 10, 1)
    assert "blocks of the recording that cannot be read" in replay(made).output
