"""Input kinds: where rows come from."""

from __future__ import annotations

import re
from typing import ClassVar, Literal

import msgspec

from edgeflow_proto.pipeline.kinds.base import InputKind, Intake, check_format
from edgeflow_proto.pipeline.kinds.decoders import Json, Senml
from edgeflow_proto.pipeline.problem import Mistake, near_miss
from edgeflow_proto.pipeline.units import Duration, Frequency

_CAPTURE = re.compile(r"\{([A-Za-z_]\w*)\}")
HOST_COLUMNS = ("cpu", "memory", "disk", "temperature", "network_received", "network_sent")
FILE_FORMATS = ("csv", "npy", "npz", "wav", "jsonl")


class Mqtt(InputKind, frozen=True, kw_only=True):
    """Messages of a topic filter (MQTT 5.0, section 4.7). ``{name}`` stands for one level and captures it.

    `broker` is a name from the device's settings.
    """

    short: ClassVar[str | None] = "topic"
    decodes: ClassVar[bool] = True
    topic: str
    qos: Literal[0, 1] = 1
    broker: str = "local"

    @property
    def topic_filter(self) -> str:
        """The filter to subscribe to: captures become ``+``."""
        return _CAPTURE.sub("+", self.topic)

    def captures(self) -> frozenset[str]:
        """Names captured from the topic."""
        return frozenset(_CAPTURE.findall(self.topic))

    def adjust(self, intake: Intake) -> Intake:
        """Check the filter; JSON is the decoder unless one is named."""
        levels = self.topic_filter.split("/")
        wild = any(level not in ("+", "#") and ("+" in level or "#" in level) for level in levels)
        if not self.topic or wild or "#" in levels[:-1] or "\0" in self.topic:
            raise Mistake(f"not a topic filter: {self.topic!r}", option="topic")
        return intake if intake.decode else msgspec.structs.replace(intake, decode=Json())


class Http(InputKind, frozen=True, kw_only=True):
    """Posts of local programs to ``/api/v1/pipelines/{pipeline}/inputs/{input}``.

    The content type says how to decode; `decode` may add where the samples are.
    """

    decodes: ClassVar[bool] = True

    def adjust(self, intake: Intake) -> Intake:
        """JSON is the decoder unless one is named."""
        return intake if intake.decode else msgspec.structs.replace(intake, decode=Json())


class Host(InputKind, frozen=True, kw_only=True):
    """This machine's own state, every so often.

    Columns: `cpu` and `memory` and `disk` in percent used, `temperature` in degrees Celsius (NaN where
    there is no sensor), `network_received` and `network_sent` in bytes per second.
    """

    short: ClassVar[str | None] = "every"
    every: Duration = Duration(10**9)

    def adjust(self, intake: Intake) -> Intake:
        """Fields must be host columns; the rate follows from `every`."""
        if self.every < 10**7:
            raise Mistake("the shortest period is 10ms", option="every")
        unknown = (
            [path for path in intake.paths.values() if path not in HOST_COLUMNS] if intake.fields else []
        )
        if unknown or intake.shape is not None or intake.decode:
            what = f"unknown field '{unknown[0]}'" if unknown else "host rows have their own form"
            hint = near_miss(unknown[0] if unknown else "", HOST_COLUMNS)
            raise Mistake(what, option="fields" if unknown else "", hint=hint)
        rate = Frequency(1e9 / self.every)
        return msgspec.structs.replace(intake, fields=intake.fields or list(HOST_COLUMNS), rate=rate)


class File(InputKind, frozen=True, kw_only=True):
    """A recorded file, read once from the start; the writer waits for the reader.

    The ending names the format: csv (first line = column names), npy (first axis = rows), npz (an array for
    each field), wav (PCM: rows in -1..1, or 16-bit samples as they are where the dtype is int16), jsonl
    (one sample a line; with ``decode: senml`` one pack). A path that ends in ``/`` is a folder of files of
    packed rows, read in the order of their names. Rows are `rate` apart unless they carry their time. A
    path that is not absolute lies in the bundle.
    """

    short: ClassVar[str | None] = "path"
    lossless: ClassVar[bool] = True
    path: str

    def adjust(self, intake: Intake) -> Intake:
        """The ending must be a known format and `rate` stated."""
        if not self.path.endswith("/"):
            check_format(self.path, FILE_FORMATS, "path")
        if intake.rate is None and intake.clock is None:
            raise Mistake("a file needs a rate", hint="for example rate: 100 Hz")
        if intake.decode and not isinstance(intake.decode, Senml):
            raise Mistake("a file is read by its ending", option="decode")
        return intake
