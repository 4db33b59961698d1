"""What an upload must be to become a bundle: the rules that the laptop applies too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeflow_proto.bundle import (
    MANIFEST_FILE,
    PIPELINE_FILE,
    Manifest,
    Signature,
    decode_manifest,
    make_manifest,
)
from edgeflow_proto.pipeline.check import check
from edgeflow_proto.pipeline.load import load
from edgeflow_proto.pipeline.problem import Problem, Rejected


@dataclass(frozen=True, slots=True)
class Bundle:
    """Files that fit together; the manifest is not one of them."""

    manifest: Manifest
    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class _Files:
    """Those beside the pipeline (port `edgeflow_proto.pipeline.kinds.base.Files`)."""

    content: Mapping[str, bytes]

    def read(self, name: str) -> bytes | None:
        return self.content.get(name)


def bundle(name: str, uploaded: Mapping[str, bytes]) -> Bundle:
    """Make a bundle of the files uploaded as `name`; raises Rejected with every problem."""
    files = {path: data for path, data in uploaded.items() if path != MANIFEST_FILE}
    text = files.get(PIPELINE_FILE)
    if text is None:
        raise Rejected([Problem(PIPELINE_FILE, 1, 1, "", f"the bundle has no {PIPELINE_FILE}")])
    claimed = _claimed(uploaded.get(MANIFEST_FILE))
    signatures = claimed.signatures if claimed else {}
    graph, problems = check(text, PIPELINE_FILE, _Files(files), signatures)
    if graph is None:
        raise Rejected(problems)
    if graph.name != name:
        raise Rejected([_misnamed(text, graph.name, name)])
    manifest = _made(name, files, signatures)
    if claimed is not None and claimed != manifest:
        raise Rejected([_manifest_problem(what) for what in _differences(claimed, manifest)])
    return Bundle(manifest, files)


def _claimed(data: bytes | None) -> Manifest | None:
    if data is None:
        return None
    try:
        return decode_manifest(data)
    except ValueError as error:
        raise Rejected([_manifest_problem(str(error).removeprefix("manifest: "))]) from None
    except RecursionError:
        raise Rejected([_manifest_problem("it is nested too deeply")]) from None


def _made(name: str, files: Mapping[str, bytes], signatures: Mapping[str, Signature]) -> Manifest:
    strays = sorted(signatures.keys() - files.keys())
    if strays:
        raise Rejected(
            [_manifest_problem(f"a signature of {path!r}, which is no file here") for path in strays]
        )
    try:
        return make_manifest(name, files, signatures)
    except ValueError as error:
        raise Rejected([Problem(PIPELINE_FILE, 1, 1, "", str(error))]) from None


def _differences(claimed: Manifest, manifest: Manifest) -> list[str]:
    """Say in what a manifest that came along differs from the files beside it."""
    out = []
    if claimed.name != manifest.name:
        out.append(f"it is of {claimed.name!r}, the pipeline is {manifest.name!r}")
    for path in sorted(claimed.files.keys() | manifest.files.keys()):
        listed, here = claimed.files.get(path), manifest.files.get(path)
        if listed is None:
            out.append(f"{path!r} is not listed")
        elif here is None:
            out.append(f"{path!r} is listed and not here")
        elif listed != here:
            out.append(f"{path!r} is not the file that is listed")
    return out


def _manifest_problem(what: str) -> Problem:
    return Problem(MANIFEST_FILE, 1, 1, "", what)


def _misnamed(text: bytes, named: str, name: str) -> Problem:
    source, _ = load(text, PIPELINE_FILE)
    what, hint = f"it was uploaded as {name!r}", f"upload it as {named!r}"
    if source is None:
        return Problem(PIPELINE_FILE, 1, 1, "name", what, hint)
    return source.problem(("name",), "name", what, hint)
