from __future__ import annotations

import asyncio
from pathlib import Path

from edgeflow_agent.uplink.memory import Memory, Outcome


def test_what_was_saved_is_there_after_a_restart(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "link")
    memory.ack("j1", 5)
    memory.ack("j1", 9)
    memory.conflict("j2", 4)
    memory.conflict("j2", 6)  # where it was first seen is what counts
    memory.keep(7, {"a": Outcome("a", "d", "refused", "why", 7)})
    asyncio.run(memory.save())
    memory.close()
    again = Memory(tmp_path / "link")
    assert (again.acked, again.conflicts, again.revision) == ({"j1": 9}, {"j2": 4}, 7)
    assert again.outcomes == {"a": Outcome("a", "d", "refused", "why", 7)}
    again.close()


def test_a_damaged_file_is_set_aside_and_a_new_one_begun(tmp_path: Path) -> None:
    folder = tmp_path / "link"
    folder.mkdir()
    (folder / "data.mdb").write_bytes(b"no such thing" * 1000)
    memory = Memory(folder)
    assert memory.acked == {}
    memory.ack("j1", 1)
    asyncio.run(memory.save())
    memory.close()
    again = Memory(folder)
    assert again.acked == {"j1": 1}
    again.close()
    assert (tmp_path / "link.damaged" / "data.mdb").exists()


def test_a_disk_that_refuses_stops_nothing_and_is_written_once_it_is_well(tmp_path: Path) -> None:
    (tmp_path / "link").write_text("in the way")
    memory = Memory(tmp_path / "link")
    memory.ack("j1", 3)
    asyncio.run(memory.save())
    assert memory.acked == {"j1": 3}
    (tmp_path / "link").unlink()
    asyncio.run(memory.save())
    memory.close()
    again = Memory(tmp_path / "link")
    assert again.acked == {"j1": 3}
    again.close()
