"""Output kinds: what is made of rows at the ends of the graph."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal

from edgeflow_proto.bundle import check_file_name
from edgeflow_proto.pipeline.flow import Flow
from edgeflow_proto.pipeline.kinds.base import Context, OutputKind, check_format, need_columns
from edgeflow_proto.pipeline.problem import Mistake
from edgeflow_proto.pipeline.units import Duration

_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_CAPTURE = re.compile(r"\{(\w*)\}")


class Event(OutputKind, frozen=True, kw_only=True):
    """An event in the journal per row, in CloudEvents form.

    `data` names the columns it carries (all by default); `type` is ``<pipeline>.<output>`` unless said.
    """

    short: ClassVar[str | None] = "type"
    effect: ClassVar[bool] = False
    type: str | None = None
    severity: Literal["info", "warning", "error", "critical"] = "info"
    data: list[str] | None = None

    def check(self, upstream: Flow, context: Context) -> None:
        """The type must be a plain word and the columns exist."""
        if self.type is not None and not _TYPE.fullmatch(self.type):
            raise Mistake(f"not an event type: {self.type!r}", option="type", hint="letters, digits, . _ -")
        if self.type is not None and self.type.startswith("edgeflow."):
            raise Mistake("types that begin with 'edgeflow.' are EdgeFlow's own", option="type")
        if self.data:
            need_columns(upstream, tuple(self.data), "data")


class Mqtt(OutputKind, frozen=True, kw_only=True):
    """A message per row. The key's name in braces (``{machine}``) stands for the row's key in the topic.

    The payload is JSON: `payload` as written, with the columns named in `data` added; both absent means
    all columns. A message older than `max_age` is dropped and counted.
    """

    short: ClassVar[str | None] = "topic"
    topic: str
    payload: dict[str, Any] | None = None
    data: list[str] | None = None
    qos: Literal[0, 1] = 0
    retain: bool = False
    max_age: Duration = Duration(10 * 10**9)
    broker: str = "local"

    def check(self, upstream: Flow, context: Context) -> None:
        """No wildcards in the topic, no captures but the key, and the columns exist."""
        if not self.topic or any(char in self.topic for char in "+#\0"):
            raise Mistake(f"not a topic to publish to: {self.topic!r}", option="topic")
        for name in _CAPTURE.findall(self.topic):
            if upstream.inputs and name != upstream.key:
                hint = f"the key is {{{upstream.key}}}" if upstream.key else "the input has no key"
                raise Mistake(f"no capture '{name}'", option="topic", hint=hint)
        if self.data:
            need_columns(upstream, tuple(self.data), "data")


class File(OutputKind, frozen=True, kw_only=True):
    """A line per row appended to a file of the device's ``files/<pipeline>/`` folder.

    It holds time, key and columns, as csv or jsonl, by the file's ending.
    """

    short: ClassVar[str | None] = "path"
    path: str

    def check(self, upstream: Flow, context: Context) -> None:
        """The ending must be known and the path stay in the folder."""
        check_format(self.path, ("csv", "jsonl"), "path")
        try:
            check_file_name(self.path)
        except ValueError as error:
            raise Mistake(str(error), option="path") from None
