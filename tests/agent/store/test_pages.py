"""Pages of LMDB files: sound ones pass, and what passes kills nobody."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import pytest

from edgeflow_agent.store import pages, segment
from edgeflow_agent.store.journal import Journal
from edgeflow_agent.store.state import Deployment, OfferRecord, State
from edgeflow_proto.event import Block, Clock

CLOCK = Clock("boot", 0, "synchronised")
PAGE = 4096
READ = """
import sys
from pathlib import Path
from edgeflow_agent.store.segment import Segment
for name in sys.argv[1:]:
    found = Segment(Path(name))
    after = found.first - 1
    while blocks := found.read(after, 1 << 20):
        after = blocks[-1][0] + blocks[-1][1] - 1
    found.close()
    print(name)
"""
WRITE = """
import sys
from pathlib import Path
from tests.agent.store.test_pages import block
from edgeflow_agent.store.journal import Journal
journal = Journal(Path(sys.argv[1]), 64 << 20)
for serial in range(400):
    journal.commit([block(1 + serial % 30), block(1)], serial)
    print(serial, flush=True)
"""


def block(count: int) -> Block:
    t = struct.pack(f"<{count}q", *range(count))
    return Block(output="o" * 40, type="t", severity="info", count=count, clock=CLOCK, t=t)


def segment_of(folder: Path, *counts: int) -> Path:
    journal = Journal(folder, 64 << 20)
    for serial, count in enumerate(counts):
        journal.commit([block(count)], serial)
    journal.close()
    return segment.names(folder)[0]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A segment with a tree of two levels, small values in its leaves and large ones beside them."""
    return segment_of(tmp_path_factory.mktemp("mixed"), *[1, 2, 3, 2000, 1, 1] * 60)


@pytest.mark.parametrize("counts", [[], [1], [1] * 600, [4000] * 30, [1, 4000] * 200])
def test_what_lmdb_wrote_is_sound(tmp_path: Path, counts: list[int]) -> None:
    pages.check(segment_of(tmp_path, *counts))


def test_so_is_a_state_with_entries_that_came_and_went(tmp_path: Path) -> None:
    state = State(tmp_path)
    for number in range(300):
        state.deploy(f"p{number}", Deployment({"http": OfferRecord("d" * 64)}))
        state.deploy(f"p{number // 2}", Deployment())
        pages.check(tmp_path / "data.mdb")
    state.close()


def test_and_a_file_that_was_made_and_never_written_to(tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(b"")
    pages.check(tmp_path / "new")
    with pytest.raises(FileNotFoundError):
        pages.check(tmp_path / "none")


def test_a_file_that_is_written_to_meanwhile_is_sound(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    looks = 0
    for _ in writer.stdout:
        pages.check(segment.names(tmp_path)[-1])
        looks += 1
    writer.stdout.close()
    assert (writer.wait(), looks) == (0, 400)


def lost(content: bytearray, page: int, _: random.Random) -> None:
    content[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)


def garbled(content: bytearray, page: int, rng: random.Random) -> None:
    content[page * PAGE : (page + 1) * PAGE] = rng.randbytes(PAGE)


def torn(content: bytearray, page: int, _: random.Random) -> None:
    content[page * PAGE + 2048 : (page + 1) * PAGE] = bytes(2048)


def older(content: bytearray, page: int, rng: random.Random) -> None:
    other = rng.randrange(2, len(content) // PAGE)
    content[page * PAGE : (page + 1) * PAGE] = content[other * PAGE : (other + 1) * PAGE]


def flipped(content: bytearray, page: int, rng: random.Random) -> None:
    content[page * PAGE + rng.randrange(64)] ^= 1 << rng.randrange(8)


def harmed(path: Path, folder: Path, harm: Callable[[bytearray, int, random.Random], None]) -> Iterator[Path]:
    """Yield copies of a segment, each with another page harmed."""
    whole = path.read_bytes()
    for page in range(len(whole) // PAGE):
        content = bytearray(whole)
        harm(content, page, random.Random(page))
        target = folder / f"{page}" / path.name
        target.parent.mkdir()
        target.write_bytes(content)
        yield target


@pytest.mark.parametrize("harm", [lost, garbled, torn, older, flipped])
def test_no_page_that_passes_kills_who_reads_it(
    mixed: Path, tmp_path: Path, harm: Callable[[bytearray, int, random.Random], None]
) -> None:
    passed, refused = [], 0
    for path in harmed(mixed, tmp_path, harm):
        try:
            pages.check(path)
            passed.append(str(path))
        except pages.DamagedError:
            refused += 1
    assert refused > 5
    done = subprocess.run([sys.executable, "-c", READ, *passed], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()) == (0, passed), done.stderr


def test_a_store_whose_transactions_put_and_delete_is_sound(tmp_path: Path) -> None:
    rng = random.Random(3)
    with lmdb.open(str(tmp_path), map_size=8 << 20) as env:
        for _ in range(400):
            with env.begin(write=True) as txn:
                for _ in range(rng.randrange(1, 60)):
                    key = b"%d" % rng.randrange(200)
                    _ = txn.delete(key) if rng.random() < 0.5 else txn.put(key, bytes(rng.randrange(6000)))
            pages.check(tmp_path / "data.mdb")
