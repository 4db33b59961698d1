"""One input's way into its ring: keys and times that samples carry, and samples that come too late."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgeflow_agent.core import board, shm
from edgeflow_agent.core.layout import RingSpec
from edgeflow_agent.core.ring import RingReader, RingWriter
from edgeflow_agent.inputs.decode.base import DecodeError, decoder_of
from edgeflow_agent.inputs.feed import Feed
from edgeflow_proto.pipeline.kinds.base import Intake, TimeField
from edgeflow_proto.pipeline.kinds.decoders import Json

SECOND = 10**9


class Fed:
    """A feed with its ring, and what was counted."""

    def __init__(self, **options: object) -> None:
        self.intake = Intake(fields=["x"], **options)  # type: ignore[arg-type]
        spec = RingSpec("p", "in", (1,), "float32", 256, 1, self.intake.max_keys)
        memory, ready = shm.create("feed", spec.size), shm.eventfd()
        fd = board.create()
        self.board = board.Board(fd)
        writer = RingWriter(memory, spec)
        writer.bind(ready)
        self.reader = RingReader(memory, spec)
        self.reader.bind(ready)
        self.feed = Feed(writer, self.intake, self.board.slot(1), lambda *_: None)
        self.decoder = decoder_of(Json(samples=""), self.intake)

    def take(self, *samples: dict[str, object]) -> None:
        self.feed.payload(json.dumps(samples).encode(), self.decoder, 0, 5 * SECOND)

    def rows(self) -> list[tuple[float, int, str]]:
        """Return value, time and key of each row."""
        self.feed.publish()
        batch = self.reader.view(self.reader.poll())
        names = [self.reader.key_name(key) if self.intake.key else "" for key in batch.key.tolist()]
        return list(zip(batch.values[:, 0].tolist(), batch.t.tolist(), names, strict=True))

    def count(self, name: str) -> int:
        return self.board.slot(1).read().get(board.labelled(name, pipeline="p", input="in"), 0)


def test_samples_of_one_message_have_keys_of_their_own() -> None:
    fed = Fed(key="id", _fielded=True)
    fed.take({"x": 1, "id": "a"}, {"x": 2, "id": "b"})
    fed.take({"x": 3, "id": "a"})
    assert [(x, key) for x, _, key in fed.rows()] == [(1, "a"), (2, "b"), (3, "a")]


def test_a_message_with_a_key_too_many_is_refused_whole() -> None:
    fed = Fed(key="id", max_keys=2, _fielded=True)
    with pytest.raises(DecodeError, match="max_keys"):
        fed.take(*({"x": 1, "id": name} for name in "abc"))
    fed.take({"x": 1, "id": "a"})
    assert [key for _, _, key in fed.rows()] == ["a"]


@pytest.mark.parametrize(("late", "kept"), [("drop", [1, 2, 4]), ("keep", [1, 2, 3, 4, 5])])
def test_what_comes_too_late_is_counted_and_dropped_or_kept(late: str, kept: list[float]) -> None:
    fed = Fed(time=TimeField(field="at"), late=late)
    fed.take({"x": 1, "at": 10}, {"x": 2, "at": 12}, {"x": 3, "at": 11})
    fed.take({"x": 4, "at": 12})
    fed.take({"x": 5, "at": 2})
    rows = fed.rows()
    assert [x for x, _, _ in rows] == kept
    assert [t for _, t, _ in rows] == sorted(t for _, t, _ in rows)
    assert fed.count("input_late_total") == 2
    assert fed.count("input_rows_total") == len(kept)


def test_texts_stand_for_their_numbers() -> None:
    fed = Fed(codes={"x": ["off", "on"]})
    fed.take({"x": "on"}, {"x": "off"})
    with pytest.raises(DecodeError, match="code"):
        fed.take({"x": "broken"})
    assert [x for x, _, _ in fed.rows()] == [1, 0]


def test_time_is_the_arrival_where_nothing_else_is_said(tmp_path: Path) -> None:
    fed = Fed(rate=np.float64(2.0))
    fed.take({"x": 1}, {"x": 2})
    assert [t for _, t, _ in fed.rows()] == [5 * SECOND - SECOND // 2, 5 * SECOND]
