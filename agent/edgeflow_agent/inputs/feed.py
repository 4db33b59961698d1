"""One input's way into its ring: payloads are decoded, counted, given times, and appended in blocks."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

import numpy as np

from edgeflow_agent.core.batch import Int64s, Keys, Values
from edgeflow_agent.core.board import Counter, Slot, labelled
from edgeflow_agent.core.clock import boottime_ns
from edgeflow_agent.core.layout import ITEM_SIZES
from edgeflow_agent.core.limited import Limited, LimitedLog
from edgeflow_agent.core.ring import Gap, KeyLimitError, RingWriter
from edgeflow_agent.inputs.decode.base import DecodeError, Decoder, Samples
from edgeflow_proto.pipeline.kinds.base import Intake

log = logging.getLogger("edgeflow.io")
MAX_PAYLOAD = 1 << 20  # bytes; more only where one sample needs it
BLOCK_ROWS = 2048  # gathered before they are written to the ring
TELL_NS = 60 * 10**9
MAX_DETAIL = 300
MAX_EXAMPLE = 120  # bytes of a rejected payload

Tell = Callable[[str, str, str, int], object]  # reason, detail, example, count


class Feed:
    """Writes the ring of one input. Nothing is seen by the reader before `publish`.

    Every payload is counted once as accepted or once, by reason, as rejected; what was rejected is
    logged with its count, not one by one, and told: the first of a reason at once, then once a minute.
    """

    def __init__(self, writer: RingWriter, intake: Intake, slot: Slot, tell: Tell) -> None:
        spec = writer.spec
        self.writer = writer
        self.largest = max(MAX_PAYLOAD, 8 * math.prod(spec.shape) * ITEM_SIZES[spec.dtype])
        self._period = 1e9 / intake.rate if intake.rate else 0.0
        self._back = np.zeros(1, np.int64)
        self._slot = slot
        self._labels = {"pipeline": spec.pipeline, "input": spec.input}
        self._messages = self._counter("input_messages_total")
        self._accepted = self._counter("input_accepted_total")
        self._rows = self._counter("input_rows_total")
        self._late = self._counter("input_late_total")
        self._drops_late = intake.late == "drop"
        self._newest = 0
        self._log = LimitedLog(log, f"{spec.pipeline}: inputs.{spec.input}: rejected", spec.pipeline)
        self._told: Limited[tuple[str, str]] = Limited(
            lambda reason, newest, count: tell(reason, *newest, count), TELL_NS
        )
        self._values: list[Values] = []
        self._times: list[Int64s | int] = []
        self._keys: list[Keys | int] = []
        self._waiting = 0

    def _counter(self, name: str, **labels: str) -> Counter:
        return self._slot.counter(labelled(name, **self._labels, **labels))

    def payload(self, payload: bytes, decoder: Decoder, key: int, arrived: int) -> int:
        """Take a payload that arrived at CLOCK_BOOTTIME `arrived`; return its number of samples.

        Raises DecodeError, having counted it.
        """
        try:
            if len(payload) > self.largest:
                raise DecodeError("size", f"{len(payload)} bytes, the most is {self.largest}")
            found = _decoded(decoder, payload)
            keys = key if found.keys is None else self._keyed(found.keys)
        except DecodeError as error:
            self.reject(error.reason, error.detail, payload=payload)
            raise
        self._messages.add()
        self._accepted.add()
        count = len(found.values)
        if found.times is not None:
            self._in_order(found.values, found.times, keys)
        else:
            self._gather(found.values, self._spaced(count, arrived) if count > 1 else arrived, keys)
        return count

    def _keyed(self, names: list[str]) -> Keys | int:
        """Return the numbers of keys; raises DecodeError (max_keys, key)."""
        numbers = [self.key(name) for name in names]
        return numbers[0] if len(numbers) == 1 else np.array(numbers, np.uint32)

    def _in_order(self, values: Values, t: Int64s, keys: Keys | int) -> None:
        """Take samples at times of their own; what came too late is dropped, where that is the rule."""
        newest = max(self._newest, self.writer.newest)
        late = t < np.maximum.accumulate(np.concatenate([[newest], t[:-1]])) if len(t) else t > t
        self._newest = max(newest, int(t.max(initial=0)))
        if late.any():
            self._late.add(int(late.sum()))
            if self._drops_late:
                kept = ~late
                values, t, keys = values[kept], t[kept], keys if isinstance(keys, int) else keys[kept]
        self._gather(values, t, keys)

    def rows(self, values: Values, t: Int64s, keys: list[str] | None = None) -> None:
        """Take rows that need no decoding: ``(n, *row_shape)``, times int64 ``(n,)``; each is accepted.

        Raises DecodeError for keys that are too many or too long.
        """
        numbers: Keys | int = 0 if keys is None else self._keyed(keys)
        self._messages.add(len(values))
        self._accepted.add(len(values))
        self._gather(values, t, numbers)

    def reject(self, reason: str, detail: str, count: int = 1, payload: bytes = b"") -> None:
        """Count what cannot be used; `payload` is the newest, where it is known."""
        self._messages.add(count)
        self._counter("input_rejected_total", reason=reason).add(count)
        now, example = boottime_ns(), payload[:MAX_EXAMPLE].decode(errors="backslashreplace")
        self._log.note(reason, detail, now, count)
        self._told.note(reason, (detail[:MAX_DETAIL], example), now, count)

    def count(self, name: str, count: int = 1) -> None:
        """Add to a counter of this input."""
        self._counter(name).add(count)

    def key(self, name: str) -> int:
        """Return the number of a key; raises DecodeError (max_keys, key)."""
        if not name:
            raise DecodeError("key", "an empty key")
        try:
            return self.writer.key(name)
        except KeyLimitError as error:
            raise DecodeError("max_keys", f"{error}: '{name}'") from None
        except ValueError as error:
            raise DecodeError("key", str(error)) from None

    def gap(self, reason: Gap) -> None:
        """Rows are missing before the next one; nothing is marked where there was none before."""
        self.flush()
        if self.writer.head:
            self.writer.gap(reason)

    def _spaced(self, count: int, arrived: int) -> Int64s:
        """Samples of one message stand `rate` apart, the last at its arrival."""
        if len(self._back) != count:
            self._back = (np.arange(1 - count, 1) * self._period).astype(np.int64)
        return arrived + self._back

    def _gather(self, values: Values, t: Int64s | int, key: Keys | int) -> None:
        if not len(values):
            return
        self._values.append(values)
        self._times.append(t)
        self._keys.append(key)
        self._waiting += len(values)
        if self._waiting >= BLOCK_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered to the ring."""
        if not self._values:
            return
        values, times, keys = self._values, self._times, self._keys
        self._values, self._times, self._keys = [], [], []
        if len(values) == 1:
            t = np.atleast_1d(np.asarray(times[0], np.int64))
            self.writer.append(values[0], t, keys[0])
        else:
            every = [len(part) for part in values]
            t = np.concatenate([np.atleast_1d(part) for part in times])
            self.writer.append(np.concatenate(values), t, _spread(keys, every))
        self._rows.add(self._waiting)
        self._waiting = 0

    def publish(self) -> None:
        """Let the reader see all rows so far."""
        self.flush()
        self.writer.publish()

    def turn(self, now: int) -> None:
        """Write the log lines that are due, and tell of what was rejected since."""
        self._log.turn(now)
        self._told.turn(now)

    def close(self) -> None:
        """Let the reader see all rows, tell what was not told yet, and let go of the ring."""
        self.publish()
        self._told.flush(boottime_ns())
        self.writer.close()


def _spread(keys: Sequence[Keys | int], counts: list[int]) -> Keys:
    """Return one key for each row of parts that have one for all or one for each."""
    if all(isinstance(key, int) for key in keys):
        return np.repeat(np.array(keys, np.uint32), counts)
    return np.concatenate([np.full(n, key, np.uint32) for key, n in zip(keys, counts, strict=True)])


def _decoded(decoder: Decoder, payload: bytes) -> Samples:
    try:
        return decoder.decode(payload)
    except DecodeError:
        raise
    except Exception as error:  # a decoder may be anyone's; one payload must not end the input
        raise DecodeError("decoder", f"{type(error).__name__}: {error}") from error
