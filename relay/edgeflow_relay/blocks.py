"""From a block as a device sent it to rows as they are stored: pure, and wary of what a block may hold."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from edgeflow_proto.event import Block, Clock, Event, decode_block, events
from edgeflow_relay.store.events import Row
from edgeflow_relay.store.journals import Batch

MAX_JSON = 128 << 20  # of a block: one that is small as columns can be huge as events
_LONGEST = 255  # of a word that is searched by
_INT64 = 1 << 63


class Unreadable(ValueError):
    """A block that holds no events that could be stored; the message says why."""


def rows(batch: Batch) -> list[Row]:
    """Return the events of a batch; raises Unreadable."""
    try:
        return list(_rows(batch))
    except MemoryError:  # says nothing of the block: who has the events keeps them until there is room
        raise
    except Exception as error:  # CBOR of any kind may be in there; none of it may stop what is behind it
        raise Unreadable(str(error) or type(error).__name__) from error


def _rows(batch: Batch) -> Iterator[Row]:
    block = _dated(decode_block(batch.block), batch.reckoned)
    if block.count != batch.count:
        raise ValueError(f"a block of {block.count} events was sent as one of {batch.count}")
    _check_words(block)
    size = 0
    for event in events(block, batch.first, batch.journal, batch.device, batch.pipeline):
        body = msgspec.json.encode(event.to_json()).decode()
        size += len(body)
        if size > MAX_JSON:
            raise ValueError(f"its events take more than {MAX_JSON >> 20} MiB as JSON")
        yield Row(
            event.source,
            event.id,
            batch.device,
            batch.pipeline,
            event.output,
            event.type,
            _wall_ns(event),
            body,
        )


def _dated(block: Block, reckoned: Clock | None) -> Block:
    """Return a block with its clock as the device knows it by now."""
    if reckoned is None:
        return block
    clock = msgspec.structs.replace(reckoned, boot_id=block.clock.boot_id)
    return msgspec.structs.replace(block, clock=clock)


def _check_words(block: Block) -> None:
    for name, word in (("type", block.type), ("output", block.output)):
        if not word or len(word) > _LONGEST or not word.isprintable():
            raise ValueError(f"its {name} is {word[:40]!r}")


def _wall_ns(event: Event) -> int:
    return max(-_INT64, min(_INT64 - 1, event.t + event.clock.offset_ns))
