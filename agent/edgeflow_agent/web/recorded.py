"""Recorded rows: those behind an event, and all of a pipeline with what ran them, for a replay elsewhere."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import chain
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse

from edgeflow_agent.store.journal import JournalError
from edgeflow_agent.store.recording import Part, Portion
from edgeflow_agent.web import portions, traces
from edgeflow_agent.web.events import traced
from edgeflow_agent.web.local import Local
from edgeflow_proto import rows_csv
from edgeflow_proto.bundle import MANIFEST_FILE, decode_manifest
from edgeflow_proto.event import instant
from edgeflow_proto.pipeline.schema import NAME
from edgeflow_proto.rows import CONTENT_TYPE, Rows
from edgeflow_proto.rows_csv import Naming
from edgeflow_proto.trace import naming_of

MAX_STREAMS = 4


class Recorded:
    """The routes. What cannot be read any more while it is sent ends the answer without its last chunk."""

    def __init__(self, local: Local) -> None:
        self._local = local
        self._streams = 0

    async def rows(self, request: Request) -> Response:
        """Return the recorded rows of an input behind an event: CSV, or blocks where those are accepted."""
        found, name = await traced(self._local, request), request.path_params["input"]
        if name not in found.spans:
            raise HTTPException(404, f"no rows of an input {name[:100]!r} are behind this event")
        local = self._local
        parts = await self._begun(traces.parts_of(local.journals, local.recordings, found, name))
        if CONTENT_TYPE in request.headers.get("accept", ""):
            return self._answer(_sent(parts), CONTENT_TYPE)
        text = _text(parts, naming_of(found, name))
        return self._answer(text, rows_csv.CONTENT_TYPE, f"{found.event['id']}-{name}.csv")

    async def recording(self, request: Request) -> Response:
        """Return the blocks of a pipeline's recording that were written from one moment to another.

        Where it is known what the steps remembered at a moment before the first, they begin there: the first
        block tells it.
        """
        name = request.path_params["name"]
        try:
            start, end = _asked(request)
        except ValueError as error:
            raise HTTPException(400, str(error)) from None
        local = self._local
        found = local.recordings.get(name, local.journals.timeline) if NAME.fullmatch(name) else None
        if found is None:
            raise HTTPException(404, "nothing is recorded of such a pipeline")
        return self._answer(_sent(await self._begun(found.follow(start, end))), CONTENT_TYPE)

    async def names(self, _: Request) -> Response:
        """Return the pipelines of which there is a recording, those too that were removed."""
        try:
            return JSONResponse({"recordings": self._local.recordings.names()})
        except OSError as error:
            raise HTTPException(503, f"the recordings cannot be read: {error}") from None

    async def file(self, request: Request) -> Response:
        """Return a file of the bundle that runs; its manifest, which is one, names them all."""
        status = self._local.pipelines.get(request.path_params["name"])
        if status is None or not status.folder:
            raise HTTPException(404, "no such pipeline")
        folder, name = Path(status.folder), request.path_params["file"]
        try:
            manifest = decode_manifest(await asyncio.to_thread((folder / MANIFEST_FILE).read_bytes))
        except (OSError, ValueError) as error:
            raise HTTPException(503, f"the bundle cannot be read: {error}") from None
        if name != MANIFEST_FILE and name not in manifest.files:
            raise HTTPException(404, "the bundle has no such file")
        return FileResponse(folder / name, media_type="application/octet-stream")

    async def _begun(self, parts: Iterator[Part]) -> Iterator[Part]:
        """Return the parts from the first block on, which was read: what fails at once can be answered."""
        if self._streams >= MAX_STREAMS:
            raise HTTPException(503, "too many recordings are being read", {"retry-after": "5"})
        self._streams += 1
        try:
            first = await portions.first(parts)
        except JournalError as error:
            raise HTTPException(503, str(error)) from None
        finally:
            self._streams -= 1
        return iter(()) if first is None else chain([first], parts)

    def _answer(self, parts: Iterable[bytes | Portion], media_type: str, file: str = "") -> Response:
        headers = {"content-disposition": f'inline; filename="{file}"'} if file else {}
        return StreamingResponse(self._parts(parts), media_type=media_type, headers=headers)

    async def _parts(self, parts: Iterable[bytes | Portion]) -> AsyncIterator[bytes]:
        """Yield what is found, and let others be served between parts."""
        self._streams += 1
        try:
            for part in parts:
                if not isinstance(part, Portion):
                    yield part
                await asyncio.sleep(0)
                if self._local.stopping:
                    raise ConnectionAbortedError("the device stops")
        finally:
            self._streams -= 1


def _sent(parts: Iterable[Part]) -> Iterator[bytes | Portion]:
    """Yield blocks as items of a CBOR sequence."""
    for part in parts:
        yield part if isinstance(part, Portion) else part.sent()


def _text(parts: Iterable[Part], naming: Naming) -> Iterator[bytes | Portion]:
    """Yield blocks as CSV."""
    given: list[Rows] = []
    lines = rows_csv.lines(iter(given.pop, None), naming)  # one text for each block that is given
    for part in parts:
        if isinstance(part, Portion):
            yield part
        else:
            given.append(part)
            yield next(lines).encode()


def _asked(request: Request) -> tuple[float, float]:
    """Return from when to when, ns since 1970; raises ValueError."""
    asked = request.query_params
    if unknown := set(asked) - {"since", "until"}:
        raise ValueError(f"unknown parameter {min(unknown)!r}; known: since, until")
    since, until = asked.get("since"), asked.get("until")
    start, end = (instant(since) if since else -math.inf), (instant(until) if until else math.inf)
    if start > end:
        raise ValueError(f"since {since} is later than until {until}")
    return start, end
