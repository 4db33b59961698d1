"""A data folder that may not be written to, as another's or a copy's, and one that may not be read."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import edgeflow_tools
from edgeflow_agent.core.logfile import MIN_BYTES, LogFile
from edgeflow_agent.store.journal import Journal
from edgeflow_tools.cli import edgeflow
from tests.support.traced import decided
from tests.tools.replay.test_replay_command import store

NOBODY = 65534


@pytest.fixture
def held() -> Iterator[Path]:
    """A data folder that everybody may look into, with a recording and an event."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        made = store(Path(folder))
        journal = Journal(made / "journals" / "press", 8 << 20)
        journal.commit([decided()])
        (made / "event").write_text(f"{journal.id}-1")
        journal.close()
        yield made


@contextmanager
def powerless(folder: Path) -> Iterator[None]:
    """Be someone who may not write there."""
    paths = [folder, *folder.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else path.stat().st_mode & 0o444)
    root = os.geteuid() == 0
    if root:
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
    try:
        if not os.access(edgeflow_tools.__file__, os.R_OK, effective_ids=True):
            pytest.skip("nobody may not read what is installed here")
        yield
    finally:
        if root:
            os.seteuid(0)
            os.setegid(0)
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)


def asked(made: Path) -> tuple[Result, Result]:
    """Return what comes of a trace and of a replay."""
    trace = ["trace", (made / "event").read_text(), "--store", str(made)]
    first, second = (CliRunner().invoke(edgeflow, arguments) for arguments in (trace, ["replay", str(made)]))
    return first, second


def without_locks(made: Path) -> None:
    for lock in made.rglob("*-lock"):
        lock.unlink()


@pytest.mark.parametrize("prepare", [lambda made: None, without_locks])
def test_what_may_be_read_and_not_written_is_read(held: Path, prepare: Callable[[Path], None]) -> None:
    assert [result.exit_code for result in asked(held)] == [0, 0]  # and all that it needs is imported
    prepare(held)
    with powerless(held):
        trace, replay = asked(held)
    assert trace.exit_code == 0, trace.output
    assert (replay.exit_code, "50 rows run again" in replay.output) == (0, True), replay.output


def test_what_may_not_be_read_is_told_as_that(held: Path) -> None:
    assert [result.exit_code for result in asked(held)] == [0, 0]
    for segment in held.rglob("*.segment"):
        segment.chmod(0)
    with powerless(held):
        for result in asked(held):
            assert (result.exit_code, "Permission denied" in result.output) == (2, True), result.output


def test_what_is_not_there_is_told_as_that(held: Path) -> None:
    result = CliRunner().invoke(edgeflow, ["trace", "abc-1", "--store", str(held)])
    assert (result.exit_code, "no such event" in result.output) == (2, True)


@pytest.mark.parametrize("shut", ["journals/press", "bundles"])
def test_a_replay_without_what_may_not_be_read_is_none(held: Path, shut: str) -> None:
    assert [result.exit_code for result in asked(held)] == [0, 0]
    with powerless(held), closed(held / shut):
        replay = CliRunner().invoke(edgeflow, ["replay", str(held)])
    assert (replay.exit_code, f"{held / shut}: Permission denied" in replay.output) == (2, True), (
        replay.output
    )


@pytest.mark.parametrize("shut", ["logs", "logs/io.1.jsonl"])
def test_logs_that_may_not_be_read_are_not_told_as_none(held: Path, shut: str) -> None:
    logfile = LogFile(held / "logs", "io", MIN_BYTES)
    logfile.append(b"no line of ours\n")
    command = ["logs", "--store", str(held)]
    assert CliRunner().invoke(edgeflow, command).exit_code == 0
    with powerless(held), closed(held / shut):
        result = CliRunner().invoke(edgeflow, command)
    assert (result.exit_code, f"{held / shut}: Permission denied" in result.output) == (2, True), (
        result.output
    )


def test_what_else_lies_among_recordings_is_no_pipeline(held: Path) -> None:
    (held / "recordings" / ".DS_Store").touch()
    (held / "recordings" / "lost+found").mkdir()
    result = CliRunner().invoke(edgeflow, ["replay", str(held)])
    assert (result.exit_code, "50 rows run again" in result.output) == (0, True), result.output


@contextmanager
def closed(path: Path) -> Iterator[None]:
    """Let nobody read it; for who owns it."""
    mode = path.stat().st_mode
    with owner():
        path.chmod(0)
    yield
    with owner():
        path.chmod(mode)


@contextmanager
def owner() -> Iterator[None]:
    """Be who started the tests for a moment."""
    own, group = os.geteuid(), os.getegid()
    os.seteuid(os.getuid())
    os.setegid(os.getgid())
    try:
        yield
    finally:
        os.setegid(group)
        os.seteuid(own)
