"""``/api/v1/pipelines``: every version that was uploaded, each checked as on the laptop."""

from __future__ import annotations

import asyncio
import logging
import uuid
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgeflow_proto import archive
from edgeflow_proto.bundle import MAX_BYTES, PIPELINE_FILE
from edgeflow_proto.pipeline.load import MAX_BYTES as MAX_DOCUMENT
from edgeflow_proto.pipeline.problem import Rejected
from edgeflow_relay.api.common import Refusal, Relay, answer, media_type, relay_of, spool
from edgeflow_relay.store import bundles, wishes
from edgeflow_relay.store.bundles import Version
from edgeflow_relay.uploads import Bundle, bundle

log = logging.getLogger("edgeflow.relay")
TAR = "application/x-tar"
DOCUMENTS = ("application/yaml", "application/json", "application/x-yaml", "text/yaml", "text/x-yaml")
_HEADERS = 1 << 20  # that a tar has besides its files
_one_at_a_time = asyncio.Lock()  # a bundle is held in memory while it is checked


def view(version: Version) -> dict[str, Any]:
    """Return a version as plain data."""
    files = version.manifest.files
    return {
        "digest": version.digest,
        "uploaded_ns": version.uploaded_ns,
        "size": sum(entry.size for entry in files.values()),
        "files": files,
    }


async def index(request: Request) -> Response:
    """Return every pipeline with its latest version."""
    relay = relay_of(request)
    latest: dict[str, Version] = {}
    for version in await relay.database.read(bundles.versions):
        latest.setdefault(version.manifest.name, version)
    devices = await _devices(relay)
    found = [
        {"name": name, **view(version), "devices": devices.get(name, {})}
        for name, version in sorted(latest.items())
    ]
    return answer({"pipelines": found})


async def _devices(relay: Relay) -> dict[str, dict[str, str]]:
    """Return by pipeline the devices that should run it, each with the digest it should run."""
    out: dict[str, dict[str, str]] = {}
    for device, deployments in (await relay.database.read(wishes.deployments)).items():
        for name, digest in deployments.desired.items():
            out.setdefault(name, {})[device] = digest
    return out


async def one(request: Request) -> Response:
    """Return a pipeline with all its versions, the latest first."""
    relay, name = relay_of(request), request.path_params["name"]
    versions = await _versions(relay, name)
    devices = (await _devices(relay)).get(name, {})
    latest = versions[0].digest
    return answer(
        {
            "name": name,
            "digest": latest,
            "versions": [view(version) for version in versions],
            "devices": devices,
        }
    )


async def _versions(relay: Relay, name: str) -> list[Version]:
    versions = await relay.database.read(partial(bundles.versions, name=name))
    if not versions:
        raise Refusal(404, f"no pipeline {name[:80]!r}")
    return versions


async def document(request: Request) -> Response:
    """Return the pipeline file of a version, the latest unless ``?digest=`` names another."""
    relay, name = relay_of(request), request.path_params["name"]
    versions = await _versions(relay, name)
    digest = request.query_params.get("digest", versions[0].digest)
    version = next((version for version in versions if version.digest == digest), None)
    if version is None:
        raise Refusal(404, f"no version {digest[:64]!r} of pipeline {name!r}")
    text = await asyncio.to_thread(relay.blobs.read, version.manifest.files[PIPELINE_FILE].digest)
    return Response(text, media_type="text/plain; charset=utf-8")


async def put(request: Request) -> Response:
    """Take a bundle (a tar) or a single pipeline file; every problem is told."""
    relay = relay_of(request)
    path = relay.uploads / uuid.uuid4().hex
    try:
        made, new = await _take(request, relay, path)
    except Rejected as rejected:
        relay.counters["uploads_refused_total"] += 1
        problems = [msgspec.to_builtins(problem) | {"text": str(problem)} for problem in rejected.problems]
        words = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}: {problems[0]['text']}"
        raise Refusal(422, words, problems=problems) from None
    except (ValueError, Refusal):
        relay.counters["uploads_refused_total"] += 1
        raise
    finally:
        await asyncio.to_thread(path.unlink, missing_ok=True)
    relay.counters["uploads_total"] += 1
    relay.registry.changed.ring()
    log.info("pipeline %s: version %s uploaded", made.manifest.name, made.manifest.digest[:12])
    found = {"name": made.manifest.name, "digest": made.manifest.digest, "new": new}
    return answer(found, 201 if new else 200)


async def _take(request: Request, relay: Relay, path: Path) -> tuple[Bundle, bool]:
    kind, name = media_type(request), request.path_params["name"]
    if kind != TAR and kind not in DOCUMENTS:
        raise Refusal(415, f"send one of {', '.join((TAR, *DOCUMENTS))}, not {kind[:60] or 'nothing'}")
    await spool(request, path, MAX_BYTES + _HEADERS if kind == TAR else MAX_DOCUMENT)
    async with _one_at_a_time:
        made = await asyncio.to_thread(_checked, name, path, kind == TAR)
        await asyncio.to_thread(relay.blobs.keep, made.files.values())
        return made, await relay.database.write(partial(bundles.add, manifest=made.manifest))


def _checked(name: str, path: Path, is_tar: bool) -> Bundle:
    data = path.read_bytes()
    try:
        files = archive.unpack(data) if is_tar else {PIPELINE_FILE: data}
    except ValueError as error:
        raise Refusal(400, str(error)) from None
    return bundle(name, files)


_ALL = "/api/v1/pipelines"
ROUTES = [
    Route(_ALL, index),
    Route(_ALL + "/{name}", one),
    Route(_ALL + "/{name}", put, methods=["PUT"]),
    Route(_ALL + "/{name}/pipeline.yaml", document),
]
