"""Output kinds: what is made of rows at the ends of the graph.

All choose what they carry alike: `data` names columns, in a list, or in a mapping from what they are to be
called (``data: {score: autoencoder_0}``); without it all columns go along.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from edgeflow_proto.bundle import check_file_name
from edgeflow_proto.pipeline.flow import Flow
from edgeflow_proto.pipeline.kinds.base import Context, OutputKind, check_format, need_columns
from edgeflow_proto.pipeline.problem import Mistake, clip
from edgeflow_proto.pipeline.units import Duration, Frequency, Size

_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_CAPTURE = re.compile(r"\{(\w*)\}")
_OWN = ("time", "key")  # what lines say of a row besides its columns
_VISIBLE = re.compile(r"[!-~]+")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_FIELD = re.compile(r"[!-~]([ -~]*[!-~])?")
_SECRET = ("authorization", "cookie", "proxy-authorization")
_MADE = (
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
)
MAX_BATCH = 1000
MAX_KEPT = 1000
MIN_ROTATE = 4096


class Carrying(OutputKind, frozen=True, kw_only=True):
    """Base of outputs that carry columns."""

    data: list[str] | dict[str, str] | None = None

    @property
    def chosen(self) -> dict[str, str] | None:
        """What is carried: name → column; ``None`` for all columns by their own names."""
        return self.data if isinstance(self.data, dict | None) else {name: name for name in self.data}

    def check(self, upstream: Flow, context: Context) -> None:
        """The columns exist."""
        if self.chosen is not None:
            need_columns(upstream, tuple(self.chosen.values()), "data")

    def check_names(self, upstream: Flow, taken: Collection[str] = _OWN) -> None:
        """Raise Mistake where a column would stand beside something else of the same name."""
        names = self.chosen if self.chosen is not None else upstream.columns
        for name in names or ():
            if name in taken:
                hint = "call it otherwise: data: {other: column}"
                raise Mistake(f"each line has a '{name}' of its own", option="data", hint=hint)


class Event(Carrying, frozen=True, kw_only=True):
    """An event in the journal per row, in CloudEvents form.

    `data` names the columns it carries (all by default), in a list, or in a mapping from what they are to be
    called: ``data: {level: score}``. The `type` is ``<pipeline>.<output>`` unless said. Events are written
    together, as often as the device's setting `commit` allows; with ``flush: now`` at once, and what waits
    with them.
    """

    short: ClassVar[str | None] = "type"
    effect: ClassVar[bool] = False
    type: str | None = None
    severity: Literal["info", "warning", "error", "critical"] = "info"
    flush: Literal["group", "now"] = "group"

    def check(self, upstream: Flow, context: Context) -> None:
        """The type must be a plain word and the columns exist."""
        if self.type is not None and not _TYPE.fullmatch(self.type):
            raise Mistake(f"not an event type: {self.type!r}", option="type", hint="letters, digits, . _ -")
        if self.type is not None and self.type.startswith("edgeflow."):
            raise Mistake("types that begin with 'edgeflow.' are EdgeFlow's own", option="type")
        Carrying.check(self, upstream, context)


class Mqtt(Carrying, frozen=True, kw_only=True):
    """A message per row. The key's name in braces (``{machine}``) stands for the row's key in the topic.

    The payload is JSON: `payload` as written, with the columns of `data` added, in a list, or in a mapping
    from what they are to be called; both absent means all columns. A message older than `max_age` is dropped
    and counted.
    """

    short: ClassVar[str | None] = "topic"
    topic: str
    payload: dict[str, Any] | None = None
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
        Carrying.check(self, upstream, context)


class File(Carrying, frozen=True, kw_only=True):
    """A line per row appended to a file of the device's ``files/<pipeline>/`` folder.

    It holds time, key and columns, as csv or jsonl, by the file's ending; `data` names the columns (all by
    default). A file that would grow beyond `rotate` is put aside with a number (the lowest is the oldest,
    ``score.1.csv``) and a new one begun; `keep` of those are kept, older ones removed and counted.
    """

    short: ClassVar[str | None] = "path"
    path: str
    rotate: Size = Size(100 * 10**6)
    keep: int = 5

    def check(self, upstream: Flow, context: Context) -> None:
        """The ending must be known, the path stay in the folder, and the columns exist."""
        Carrying.check(self, upstream, context)
        self.check_names(upstream)
        if self.rotate < MIN_ROTATE:
            raise Mistake(f"must be at least {MIN_ROTATE} B", option="rotate")
        if not 1 <= self.keep <= MAX_KEPT:
            raise Mistake(f"must be between 1 and {MAX_KEPT}", option="keep")
        check_format(self.path, ("csv", "jsonl"), "path")
        try:
            check_file_name(self.path)
        except ValueError as error:
            raise Mistake(str(error), option="path") from None


class Http(Carrying, frozen=True, kw_only=True):
    """A POST of JSON per row (RFC 9110), or of a list of rows where `batch` says how many at most.

    It goes to `url`, or to `path` at an `endpoint` of the device's settings, where secret headers and
    certificates stand. The body is made as that of ``mqtt``: `payload` as written with the columns of `data`
    added, or without both all columns with time and key. What the other end does not take for reasons of its
    own (no connection, no answer within `timeout`, status 408, 425, 429 or 5xx) is tried again, ever more
    seldom, until a row is older than `max_age`; other refusals drop the rows. Both are counted. A row whose
    answer was lost is sent twice.
    """

    short: ClassVar[str | None] = "url"
    url: str | None = None
    endpoint: str | None = None
    path: str = ""
    headers: dict[str, str] | None = None
    payload: dict[str, Any] | None = None
    batch: int | None = None
    timeout: Duration = Duration(10 * 10**9)
    max_age: Duration = Duration(600 * 10**9)

    def check(self, upstream: Flow, context: Context) -> None:
        """One place to go to, no secrets in the file, and the columns exist."""
        Carrying.check(self, upstream, context)
        if (self.url is None) == (self.endpoint is None):
            raise Mistake("give either url or endpoint")
        if self.url is not None:
            check_url(self.url, "url")
            if self.path:
                raise Mistake("belongs to an endpoint; the url has its own", option="path")
        elif self.path and not (self.path.startswith("/") and _VISIBLE.fullmatch(self.path)):
            raise Mistake(f"not a path: {self.path!r}", option="path", hint="as in /alarms")
        self._check_headers()
        if self.batch is not None and not 1 <= self.batch <= MAX_BATCH:
            raise Mistake(f"must be between 1 and {MAX_BATCH}", option="batch")
        if not 10**6 <= self.timeout <= 60 * 10**9:
            raise Mistake("must be between 1ms and 60s", option="timeout")

    def _check_headers(self) -> None:
        for name, value in (self.headers or {}).items():
            check_header(name, value, "headers")
            if name.lower() in _SECRET:
                hint = "name an endpoint of the device's settings, which has the header"
                raise Mistake(f"secrets do not stand in a pipeline: '{name}'", option="headers", hint=hint)


class Log(Carrying, frozen=True, kw_only=True):
    """A line per row in the pipeline's log (``edgeflow logs``): time, key and columns as JSON.

    `data` names the columns (all by default). Of more lines than `rate` the rest are counted, and their
    number is logged every ten seconds.
    """

    short: ClassVar[str | None] = "level"
    level: Literal["info", "warning", "error"] = "info"
    rate: Frequency = Frequency(10.0)

    def check(self, upstream: Flow, context: Context) -> None:
        """The columns exist."""
        Carrying.check(self, upstream, context)
        self.check_names(upstream)


def check_url(url: str, option: str) -> None:
    """Raise Mistake unless `url` is one to post to: absolute, of http or https, without secrets in it."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, half an address
        good = False
    if not good or not _VISIBLE.fullmatch(url) or parts.fragment:
        hint = "as in http://127.0.0.1:8080/alarms"
        raise Mistake(f"not a URL to post to: {clip(url)!r}", option=option, hint=hint)
    if parts.username is not None or parts.password is not None:
        raise Mistake("a URL with a password in it is seen by many", option=option, hint="use a header")


def check_header(name: str, value: str, option: str) -> None:
    """Raise Mistake unless a header can be sent (RFC 9110, section 5), and is not one that EdgeFlow sends."""
    if not _TOKEN.fullmatch(name) or not _FIELD.fullmatch(value):
        raise Mistake(f"not a header: {clip(name)!r}", option=option, hint="visible ASCII letters only")
    if name.lower() in _MADE:
        raise Mistake(f"'{name}' is made by EdgeFlow", option=option)
