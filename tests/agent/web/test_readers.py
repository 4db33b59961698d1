"""Journals as a reader finds them: made, remade, gone, damaged, or held by a reader that was killed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgeflow_agent.store import segment
from edgeflow_agent.store.journal import Journal
from edgeflow_agent.store.readers import Journals, Unreadable
from tests.agent.web.harness import block

HOLD = """
import lmdb, sys, time
transaction = lmdb.open(sys.argv[1], subdir=False, readonly=True, max_dbs=2).begin()
print(flush=True)
time.sleep(99)
"""
LOOK = """
import pathlib, sys
from edgeflow_agent.store.readers import Journals
assert Journals(pathlib.Path(sys.argv[1])).refresh()
"""


def write(path: Path, count: int) -> str:
    journal = Journal(path, 4 << 20)
    journal.commit([block(count)])
    journal.close()
    return journal.id


def test_journals_are_opened_reopened_when_made_anew_and_let_go(tmp_path: Path) -> None:
    journals = Journals(tmp_path / "nowhere yet")
    assert not journals.refresh()
    journals = Journals(tmp_path)
    first = write(tmp_path / "a", 3)
    (tmp_path / "half made").mkdir()
    assert journals.refresh()
    assert not journals.refresh()
    assert [(j.pipeline, j.id, j.bounds) for j in journals] == [("a", first, (1, 3))]
    journals.close()
    shutil.rmtree(tmp_path / "a")
    second = write(tmp_path / "a", 1)
    assert journals.refresh()
    assert journals.by_id(first) is None
    assert journals.by_id(second) is journals.get("a")
    shutil.rmtree(tmp_path / "a")
    journals.refresh()
    assert list(journals) == []


def test_a_damaged_journal_is_left_out_and_the_others_read(tmp_path: Path) -> None:
    write(tmp_path / "good", 2)
    write(tmp_path / "bad", 2)
    segment.named(tmp_path / "bad", 1).write_bytes(b"x" * 8192)
    journals = Journals(tmp_path)
    journals.refresh()
    assert [journal.pipeline for journal in journals] == ["good"]
    journals.close()


def test_a_journal_that_fails_is_dropped_and_tried_anew(tmp_path: Path) -> None:
    write(tmp_path / "a", 2)
    journals = Journals(tmp_path)
    journals.refresh()
    journal = next(iter(journals))
    for segment_ in journal._reader._open.values():
        segment_.close()  # as a failing disk does: every call raises
    with pytest.raises(Unreadable) as raised:
        journal.read(0)
    journals.drop(raised.value)
    assert list(journals) == []
    assert journals.refresh()
    assert [journal.bounds for journal in journals] == [(1, 2)]
    journals.close()


def test_after_a_reader_was_killed_the_next_one_sees_to_it_that_pages_are_used_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a", 4 << 20)
    journal.commit([block(1)])
    command = [sys.executable, "-c", HOLD, str(segment.named(tmp_path / "a", 1))]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        reader.kill()
    subprocess.run([sys.executable, "-c", LOOK, str(tmp_path)], check=True)
    for start in range(0, 400_000, 1000):  # many times what the file may hold
        journal.commit([block(1000, start)])
    journal.close()


def test_what_is_opened_is_looked_at_so_that_damage_is_known_before_anybody_asks(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a", 64 << 20)
    for _ in range(700):
        journal.commit([block(1000)])
    journal.close()
    paths = segment.names(tmp_path / "a")
    assert len(paths) > 1
    content = paths[0].read_bytes()
    paths[0].write_bytes(content[:8192] + bytes(len(content) - 8192))
    journals = Journals(tmp_path)
    assert journals.refresh()
    while journals.look_ahead():  # what the first look had no time for
        pass
    known = journals.get("a")
    assert known is not None
    assert known.damaged == [paths[0].name]
    journals.close()
