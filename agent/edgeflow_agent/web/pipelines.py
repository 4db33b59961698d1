"""``/api/v1/pipelines``: what runs here; putting a pipeline here and taking it away without a relay."""

from __future__ import annotations

import asyncio
import errno
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edgeflow_agent.core.errors import told
from edgeflow_agent.core.messages import Offered
from edgeflow_agent.store.budget import on_disk
from edgeflow_agent.web import bodies, views
from edgeflow_agent.web.local import Local
from edgeflow_agent.web.offers import ORIGIN
from edgeflow_proto import archive
from edgeflow_proto.bundle import PIPELINE_FILE
from edgeflow_proto.pipeline.load import MAX_BYTES as MAX_DOCUMENT
from edgeflow_proto.pipeline.schema import NAME

TRIAL_S = 300.0  # others may wait for their trial before it
WITHDRAW_S = 10.0
MAX_UPLOAD = (
    128 << 20
)  # it is in memory twice while it is unpacked; larger bundles go into the watched folder
_DOCUMENTS = ("application/json", "application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml")


class Pipelines:
    """The routes. Bundles are staged hidden and take their name when they are whole."""

    def __init__(self, local: Local, staging: Path) -> None:
        self._local = local
        self._staging = staging

    async def list(self, request: Request) -> Response:
        """Return all pipelines."""
        known = sorted(self._local.pipelines.values(), key=lambda status: status.name)
        return JSONResponse({"pipelines": [views.pipeline(self._local, status) for status in known]})

    async def get(self, request: Request) -> Response:
        """Return one pipeline, with the document it runs."""
        status = self._local.pipelines.get(request.path_params["name"])
        if status is None:
            return JSONResponse({"error": "no such pipeline"}, 404)
        document = await asyncio.to_thread(_document, status.folder)
        return JSONResponse(views.pipeline(self._local, status) | {"document": document})

    async def put(self, request: Request) -> Response:
        """Try a bundle or a single document and run it; every problem is told.

        The answer's ``runs`` is ``relay`` where the relay's wish for the name wins over this one.
        """
        name, kind = request.path_params["name"], bodies.media_type(request)
        if kind != archive.CONTENT_TYPE and kind not in _DOCUMENTS:
            return _problems(415, f"send one of {', '.join((archive.CONTENT_TYPE, *_DOCUMENTS))}")
        try:
            return await self._take(request, name, kind == archive.CONTENT_TYPE)
        except (ValueError, OSError) as error:
            return _failure(error)

    async def _take(self, request: Request, name: str, is_tar: bool) -> Response:
        if not NAME.fullmatch(name):
            raise ValueError(f"not a pipeline name: {name[:100]!r} (a-z, 0-9 and -, a letter first)")
        new = name not in self._local.pipelines
        if is_tar:
            files = await asyncio.to_thread(archive.unpack, await bodies.read(request, MAX_UPLOAD))
        else:
            files = {PIPELINE_FILE: await bodies.read(request, MAX_DOCUMENT)}
        hidden = self._staging / f".{uuid.uuid4().hex}"
        async with self._local.room.claim(on_disk(map(len, files.values())), hidden):
            staged = await asyncio.to_thread(self._stage, name, files, hidden)
        try:
            return self._answer(await self._local.offers.offer(name, staged, TRIAL_S), new)
        except ConnectionError:
            await asyncio.to_thread(shutil.rmtree, staged, ignore_errors=True)
            raise

    def _stage(self, name: str, files: Mapping[str, bytes], hidden: Path) -> Path:
        """Write a bundle to a hidden folder, and give it its name; raises OSError."""
        try:
            hidden.mkdir(parents=True)
            for path, data in files.items():
                target = hidden / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
            return hidden.rename(self._staging / f"{name}-{hidden.name[1:]}")
        except OSError:
            shutil.rmtree(hidden, ignore_errors=True)
            raise

    def _answer(self, offered: Offered, new: bool) -> Response:
        if offered.state != "active":
            return JSONResponse({"problems": offered.reason.splitlines() or [offered.state]}, 422)
        known = self._local.pipelines.get(offered.name)
        origin = "relay" if known is not None and known.origin == "relay" else ORIGIN
        warnings = offered.reason.splitlines()
        found = {"name": offered.name, "digest": offered.digest, "runs": origin, "warnings": warnings}
        return JSONResponse(found, 201 if new else 200)

    async def delete(self, request: Request) -> Response:
        """Withdraw what was put here; what a relay or the folder wants stays."""
        name = request.path_params["name"]
        status = self._local.pipelines.get(name)
        if status is None:
            return JSONResponse({"error": "no such pipeline"}, 404)
        if status.origin == "folder":
            return JSONResponse({"error": "it lies in the watched folder; remove it there"}, 409)
        try:
            await self._local.offers.withdraw(name, WITHDRAW_S)
        except TimeoutError:
            return JSONResponse({"error": "agentd has not answered"}, 504)
        except ConnectionError as error:
            return JSONResponse({"error": str(error)}, 503)
        return Response(status_code=204)


def _document(folder: str) -> str | None:
    try:
        return (Path(folder) / PIPELINE_FILE).read_text(errors="replace") if folder else None
    except OSError:
        return None


def _failure(error: Exception) -> Response:
    if isinstance(error, bodies.TooLarge):
        return _problems(413, str(error))
    if isinstance(error, TimeoutError):
        return _problems(504, "the trial goes on; look at the pipeline's state")
    if isinstance(error, ConnectionError):
        return _problems(503, str(error))
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return _problems(413, told(error))
    if isinstance(error, OSError):
        return _problems(507, f"cannot be stored: {told(error)}")
    return _problems(422, str(error))


def _problems(code: int, words: str) -> Response:
    return JSONResponse({"problems": [words]}, code)
