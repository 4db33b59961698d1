from __future__ import annotations

import numpy as np

from edgeflow_agent.core.batch import Batch, numbered
from edgeflow_agent.flow.queue import MAX_BYTES, MAX_NOTICES, Queue
from edgeflow_proto.event import Block, Clock

COUNT = 1000


def rows(t: int, count: int = COUNT) -> Batch:
    values = np.full((count, 100), t, np.float32)
    return numbered(values, np.full(count, t, np.int64), np.zeros(count, np.uint32), 0, None)


def told(number: int) -> Block:
    return Block(
        output=str(number), type="t", severity="info", count=1, clock=Clock("b", 0, "relay"), t=bytes(8)
    )


def test_rows_are_copied_and_counted() -> None:
    queue = Queue()
    batch = rows(1)
    queue.add("a", batch, 5)
    batch.values[:] = 0
    assert queue.rows["a"][0].values[0, 0] == 1
    assert (queue.count, queue.decided, bool(queue)) == (COUNT, 5, True)
    assert queue.shed() == 0


def test_of_too_much_the_oldest_of_all_outputs_goes() -> None:
    queue = Queue()
    for t in range(100):
        queue.add("ab"[t % 2], rows(t), t)
    gone = queue.shed()
    kept = sorted(int(batch.t[0]) for batches in queue.rows.values() for batch in batches)
    assert kept == list(range(gone // COUNT, 100))
    assert queue.count == len(kept) * COUNT
    assert sum(batch.values.nbytes for batches in queue.rows.values() for batch in batches) <= MAX_BYTES // 2
    assert queue.shed() == 0


def test_what_explains_the_others_stays() -> None:
    queue = Queue()
    queue.first = [told(-1)]
    for number in range(MAX_NOTICES + 7):
        queue.tell(told(number))
    assert queue.shed() == 7
    assert [block.output for block in queue.notices][:2] == ["-1", "7"]
    assert len(queue.notices) == 1 + MAX_NOTICES


def test_where_it_is_the_limit_that_refuses_notices_go_as_well() -> None:
    queue = Queue()
    for number in range(300):
        queue.tell(told(number))
    assert queue.shed() == 0
    assert queue.shed(256 << 10) == 268
    assert [notice.output for notice in queue.notices] == [str(number) for number in range(268, 300)]
