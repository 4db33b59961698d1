"""``edgeflow logs`` of a data folder whose agent does not run."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from edgeflow_agent.store import logs as store
from edgeflow_tools.cli import edgeflow
from edgeflow_tools.commands import logs
from tests.agent.store.test_logs import Process


def run(*arguments: str) -> Result:
    return CliRunner().invoke(edgeflow, ["logs", *arguments])


def test_lines_are_shown_for_people_and_for_programs(tmp_path: Path) -> None:
    worker = Process(tmp_path / "logs", "worker-watch")
    worker.say("all is well", 10**9)
    worker.say("two\nlines", 2 * 10**9, level="error")
    shown = run("--store", str(tmp_path)).stdout.splitlines()
    assert shown[0] == f"1970-01-01T00:00:01.000000Z~ worker/watch{' ' * 21} all is well"
    assert shown[1:] == ["1970-01-01T00:00:02.000000Z~ worker/watch             error    two", "lines"]
    (line,) = run("watch", "--store", str(tmp_path), "--level", "warning", "--json").stdout.splitlines()
    assert json.loads(line)["message"] == "two\nlines"
    assert run("--store", str(tmp_path), "--since", "1970-01-01T00:00:03Z").stdout == ""


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    nothing = run("--store", str(tmp_path))
    assert (nothing.exit_code, "holds no logs" in nothing.stderr) == (2, True)
    Process(tmp_path / "logs", "worker-watch").say("x", 1)
    near = run("wacht", "--store", str(tmp_path))
    assert (near.exit_code, near.stdout) == (0, "")
    assert near.stderr == "nothing is logged of 'wacht' (did you mean 'watch'?)\n"
    (tmp_path / "journals" / "quiet").mkdir(parents=True)
    quiet = run("quiet", "--store", str(tmp_path))
    assert (quiet.exit_code, quiet.stderr) == (0, "nothing is logged of 'quiet' yet\n")
    assert run("--store", str(tmp_path), "--to", "http://127.0.0.1:1").exit_code == 2


def test_levels_are_those_of_the_store() -> None:
    assert logs.LEVELS == store.LEVELS
