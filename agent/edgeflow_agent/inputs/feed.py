"""One input's way into its ring: payloads are decoded, counted, given times, and appended in blocks."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import numpy as np

from edgeflow_agent.core.batch import Int64s, Values
from edgeflow_agent.core.board import Counter, Slot, labelled
from edgeflow_agent.core.clock import boottime_ns
from edgeflow_agent.core.layout import ITEM_SIZES
from edgeflow_agent.core.limited import Limited, LimitedLog
from edgeflow_agent.core.ring import Gap, KeyLimitError, RingWriter
from edgeflow_agent.inputs.decode.base import DecodeError, Decoder
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
        self._log = LimitedLog(log, f"{spec.pipeline}: inputs.{spec.input}: rejected")
        self._told: Limited[tuple[str, str]] = Limited(
            lambda reason, newest, count: tell(reason, *newest, count), TELL_NS
        )
        self._values: list[Values] = []
        self._times: list[Int64s | int] = []
        self._keys: list[int] = []
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
            rows = _decoded(decoder, payload)
        except DecodeError as error:
            self.reject(error.reason, error.detail, payload=payload)
            raise
        self._messages.add()
        self._accepted.add()
        count = len(rows)
        self._gather(rows, self._spaced(count, arrived) if count > 1 else arrived, key)
        return count

    def rows(self, values: Values, t: Int64s) -> None:
        """Take rows that need no decoding: ``(n, *row_shape)``, times int64 ``(n,)``; each is accepted."""
        self._messages.add(len(values))
        self._accepted.add(len(values))
        self._gather(values, t, 0)

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

    def _gather(self, values: Values, t: Int64s | int, key: int) -> None:
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
        elif self._waiting == len(values):
            t = np.array(times, np.int64).ravel()
            self.writer.append(np.concatenate(values), t, np.array(keys, np.uint32))
        else:
            t = np.concatenate([np.atleast_1d(part) for part in times])
            self.writer.append(np.concatenate(values), t, np.repeat(keys, [len(part) for part in values]))
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


def _decoded(decoder: Decoder, payload: bytes) -> Values:
    try:
        return decoder.decode(payload)
    except DecodeError:
        raise
    except Exception as error:  # a decoder may be anyone's; one payload must not end the input
        raise DecodeError("decoder", f"{type(error).__name__}: {error}") from error
