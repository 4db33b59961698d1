from __future__ import annotations

import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path

import lmdb
import msgspec
import pytest
from msgspec.structs import replace

from edgeflow_agent.store import generations
from edgeflow_agent.store.journal import Journal
from edgeflow_agent.store.recording import Recording
from edgeflow_agent.store.state import Alive, Deployment, OfferRecord, State, StateError, device_of, timeline
from edgeflow_proto.event import ROW_BITS
from edgeflow_proto.timeline import Boot, Sync
from tests.agent.store.test_recording import rows
from tests.agent.web.harness import block


def test_generations_never_repeat_over_restarts(tmp_path: Path) -> None:
    seen = []
    for _ in range(3):
        state = State(tmp_path)
        seen += [state.next_generation(), state.next_generation()]
        state.close()
    assert seen == [1, 2, 3, 4, 5, 6]


def test_deployments_are_remembered_and_empty_ones_forgotten(tmp_path: Path) -> None:
    state = State(tmp_path)
    wanted = Deployment({"relay": OfferRecord("abc", "", 4)})
    state.deploy("one", wanted)
    state.deploy("two", wanted)
    state.deploy("two", Deployment())
    state.close()
    assert State(tmp_path).deployments() == {"one": wanted}


def test_alive_is_read_back(tmp_path: Path) -> None:
    state = State(tmp_path)
    assert state.alive() is None
    alive = Alive("boot", 1, 2, True, "dev1")
    state.live(alive)
    assert state.alive() == alive
    state.close()
    assert device_of(tmp_path) == "dev1"


def test_a_store_that_has_told_no_name_of_its_device_has_none(tmp_path: Path) -> None:
    assert device_of(tmp_path / "none") == ""
    State(tmp_path).close()
    assert device_of(tmp_path) == ""


def test_a_store_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    State(tmp_path).close()
    with lmdb.open(str(tmp_path), max_dbs=2) as env, env.begin(write=True) as txn:
        txn.put(b"format", b"2", db=env.open_db(b"meta", txn=txn))
    with pytest.raises(StateError, match="store format 2 is not known"):
        State(tmp_path)


def test_rings_are_made_on_a_full_disk_too(tmp_path: Path) -> None:
    state = State(tmp_path)
    assert state.next_generation() == 1
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        assert [state.next_generation(), state.next_generation()] == [2, 3]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert state.next_generation() == 4


def test_others_read_what_is_known_of_the_clock_while_the_agent_writes_it(tmp_path: Path) -> None:
    known = Boot("b1", syncs=(Sync(5, 10**18, 100, "relay"),))
    code = (
        "import sys, msgspec; from pathlib import Path; from edgeflow_agent.store.state import timeline;"
        "sys.stdout.buffer.write(msgspec.msgpack.encode(timeline(Path(sys.argv[1])).boots))"
    )
    state = State(tmp_path / "state")
    state.keep_boot(known)
    command = [sys.executable, "-c", code, str(tmp_path / "state")]
    read = subprocess.run(command, capture_output=True, check=True)
    assert msgspec.msgpack.decode(read.stdout, type=list[Boot]) == [known]
    state.close()
    assert timeline(tmp_path / "nowhere").boots == ()
    assert not (tmp_path / "nowhere").exists()


def write_rows(store: Path, pipeline: str, *, decided: int, recorded: int) -> None:
    """Write an event, and a recorded row, of rows from rings of these generations."""
    journal = Journal(store / "journals" / pipeline, 1 << 20)
    number = decided << ROW_BITS | 5
    journal.commit([replace(block(), inputs=("a",), spans=struct.pack("<qq", number - 5, number)), block()])
    journal.close()
    recording = Recording(store / "recordings" / pipeline, 1 << 20)
    recording.write([rows(recorded << ROW_BITS, 3)])
    recording.close()


@pytest.mark.parametrize("loss", ["emptied", "removed"])
@pytest.mark.parametrize(("decided", "recorded"), [(70, 90), (90, 70)])
def test_where_the_state_is_lost_no_row_number_comes_again(
    tmp_path: Path, loss: str, decided: int, recorded: int
) -> None:
    State(tmp_path / "state").close()
    write_rows(tmp_path, "one", decided=decided, recorded=recorded)
    write_rows(tmp_path, "two", decided=7, recorded=8)
    path = tmp_path / "state" / "data.mdb"
    os.truncate(path, 0) if loss == "emptied" else shutil.rmtree(path.parent)
    again = State(tmp_path / "state")
    assert again.damaged == "it is gone, and what it knew of is not"
    following = again.next_generation()
    assert following == 90 + generations.MARGIN + 1
    again.close()
    once_more = State(tmp_path / "state")
    assert once_more.damaged == ""
    assert once_more.next_generation() == following + 1
    once_more.close()


def test_a_store_in_which_nothing_was_decided_is_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "journals" / "odd").mkdir(parents=True)
    (tmp_path / "journals" / ".DS_Store").touch()
    journal = Journal(tmp_path / "journals" / "_agent", 1 << 20)
    journal.commit([block()])
    journal.close()
    state = State(tmp_path / "state")
    assert (state.damaged, state.next_generation()) == ("", 1)
    state.close()


@pytest.mark.parametrize("harm", ["overwritten", "cut off", "garbled", "zeroed"])
def test_a_damaged_state_is_set_aside_and_numbers_go_on_elsewhere(tmp_path: Path, harm: str) -> None:
    state = State(tmp_path / "state")
    for name in range(200):
        state.deploy(f"p{name}", Deployment({"http": OfferRecord("d" * 64)}))
    assert state.next_generation() == 1
    state.close()
    write_rows(tmp_path, "one", decided=1, recorded=1)
    path = tmp_path / "state" / "data.mdb"
    content = bytearray(path.read_bytes())
    if harm == "overwritten":
        content[:8192] = b"x" * 8192
    elif harm == "cut off":
        del content[3 * 4096 :]
    else:  # all pages but the two that tell where the others are
        content[8192:] = bytes(len(content) - 8192) if harm == "zeroed" else os.urandom(len(content) - 8192)
    path.write_bytes(content)
    again = State(tmp_path / "state")
    assert again.damaged
    assert again.deployments() == {}
    assert again.next_generation() == 1 + generations.MARGIN + 1
    again.close()
    assert (tmp_path / "state.damaged" / "data.mdb").exists()
    assert State(tmp_path / "state").damaged == ""


def test_what_cannot_be_taken_apart_in_a_state_is_damage_too(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    state._write(lambda txn: txn.put(b"p", b"no deployment", db=state._deployments))
    state.close()
    again = State(tmp_path / "state")
    assert again.damaged
    assert again.deployments() == {}
    again.close()


def test_a_sign_of_life_that_cannot_be_read_is_damage(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    state._put(b"alive", b"\xc1")
    state.close()
    again = State(tmp_path / "state")
    assert again.damaged
    assert again.alive() is None
    again.close()
