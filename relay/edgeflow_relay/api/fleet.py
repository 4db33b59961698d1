"""Devices, pipelines, and which runs where."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from edgeflow_proto.bundle import MAX_BYTES, PIPELINE_FILE, Manifest
from edgeflow_proto.pipeline.problem import Rejected
from edgeflow_relay.api.common import error, relay_of
from edgeflow_relay.bundles import UploadError, checked, files_of
from edgeflow_relay.store.blobs import Blobs


async def list_devices(request: Request) -> Response:
    """``{"devices": [...]}``."""
    return JSONResponse({"devices": await relay_of(request).registry.fleet()})


async def get_device(request: Request) -> Response:
    """One device."""
    device = await relay_of(request).registry.device(request.path_params["device"])
    return error(404, "no such device") if device is None else JSONResponse(device)


async def list_pipelines(request: Request) -> Response:
    """``{"pipelines": [{"name", "digest", "versions": [...]}]}``, the newest version of each first."""
    names: dict[str, list[dict[str, Any]]] = {}
    for manifest, uploaded in await relay_of(request).registry.versions():
        names.setdefault(manifest.name, []).append(_version(manifest, uploaded))
    shown = [
        {"name": name, "digest": found[0]["digest"], "versions": found}
        for name, found in sorted(names.items())
    ]
    return JSONResponse({"pipelines": shown})


async def get_pipeline(request: Request) -> Response:
    """One pipeline with its versions, or its file with ``Accept: application/yaml``."""
    relay, name = relay_of(request), request.path_params["name"]
    versions = await relay.registry.versions(name)
    if not versions:
        return error(404, "no such pipeline")
    newest = versions[0][0]
    if "yaml" in request.headers.get("accept", ""):
        path = relay.blobs.path(newest.files[PIPELINE_FILE].digest)
        return PlainTextResponse(path.read_text() if path else "", media_type="application/yaml")
    return JSONResponse({"name": name, "digest": newest.digest, "versions": [_version(*v) for v in versions]})


def _version(manifest: Manifest, uploaded: int) -> dict[str, Any]:
    files = {name: {"digest": entry.digest, "size": entry.size} for name, entry in manifest.files.items()}
    return {"digest": manifest.digest, "uploaded_ns": uploaded, "files": files}


async def put_pipeline(request: Request) -> Response:
    """Take an upload in: 201 with ``{"name", "digest"}``, 422 with every problem."""
    relay = relay_of(request)
    body = await _body(request)
    if body is None:
        return error(413, f"a bundle holds at most {MAX_BYTES >> 20} MiB")
    try:
        files = files_of(body, request.headers.get("content-type", ""))
        manifest, files = checked(request.path_params["name"], files)
    except Rejected as rejected:
        problems = [
            {f: getattr(p, f) for f in p.__struct_fields__} | {"text": str(p)} for p in rejected.problems
        ]
        return error(422, "the pipeline has mistakes", problems=problems)
    except UploadError as problem:
        return error(problem.status, str(problem))
    await asyncio.to_thread(_store, relay.blobs, files)
    await relay.registry.upload(manifest)
    return JSONResponse({"name": manifest.name, "digest": manifest.digest}, 201)


def _store(blobs: Blobs, files: dict[str, bytes]) -> None:
    for data in files.values():
        blobs.put(data)


async def _body(request: Request) -> bytes | None:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BYTES:
            return None
        parts.append(part)
    return b"".join(parts)


async def put_desired(request: Request) -> Response:
    """Let a device run a version (the newest, or ``{"digest": …}``): 202 with the device's revision."""
    relay, name = relay_of(request), request.path_params["name"]
    try:
        asked = json.loads(await request.body() or b"{}").get("digest")
    except (ValueError, AttributeError):
        return error(400, 'the body is JSON: {"digest": "…"}, or empty for the newest')
    versions = [manifest.digest for manifest, _ in await relay.registry.versions(name)]
    digest = asked or (versions[0] if versions else None)
    if digest not in versions:
        return error(404, f"no such version of {name}" if versions else f"no pipeline {name}")
    return await _want(request, name, digest)


async def delete_desired(request: Request) -> Response:
    """Let a device no longer run a pipeline."""
    return await _want(request, request.path_params["name"], None)


async def _want(request: Request, name: str, digest: str | None) -> Response:
    device = request.path_params["device"]
    revision = await relay_of(request).registry.want(device, name, digest)
    if revision is None:
        return error(404, "no such device: it must have said hello once")
    return JSONResponse({"device": device, "name": name, "digest": digest, "revision": revision}, 202)


ROUTES = [
    Route("/api/v1/devices", list_devices),
    Route("/api/v1/devices/{device}", get_device),
    Route("/api/v1/devices/{device}/pipelines/{name}", put_desired, methods=["PUT"]),
    Route("/api/v1/devices/{device}/pipelines/{name}", delete_desired, methods=["DELETE"]),
    Route("/api/v1/pipelines", list_pipelines),
    Route("/api/v1/pipelines/{name}", get_pipeline),
    Route("/api/v1/pipelines/{name}", put_pipeline, methods=["PUT"]),
]
