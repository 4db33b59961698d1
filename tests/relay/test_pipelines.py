"""Uploading pipelines and putting them on devices."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

import msgspec
import pytest

from edgeflow_proto.archive import pack
from edgeflow_proto.bundle import Manifest, Signature, Tensor, decode_manifest, make_manifest, sha256
from edgeflow_proto.pipeline.check import check
from tests.relay.conftest import Connect
from tests.relay.harness import Relay
from tests.support.processes import eventually

PIPELINE = """\
edgeflow: 1
name: watch
inputs:
  accel: {mqtt: plant/accel, decode: json, fields: [x, y], rate: 100 Hz}
steps:
  window: {from: accel, window: {size: 8, hop: 8}}
  stats: {from: window, stats: [mean]}
outputs:
  alarm: {from: stats, event: {type: watch.mean}}
"""
WRONG = PIPELINE.replace("window: {size: 8, hop: 8}", "widnow: 8").replace("from: stats,", "from: stast,")
TAR, YAML = "application/x-tar", "application/yaml"


class Files(dict[str, bytes]):
    def read(self, name: str) -> bytes | None:
        return self.get(name)


def named(name: str) -> bytes:
    return PIPELINE.replace("name: watch", f"name: {name}").encode()


def upload(relay: Relay, name: str, body: bytes, kind: str = YAML) -> tuple[int, Any]:
    return relay.json("PUT", f"/api/v1/pipelines/{name}", body, Content_Type=kind)


def test_a_pipeline_file_becomes_a_version(relay: Relay) -> None:
    status, found = upload(relay, "single", named("single"))
    manifest = make_manifest("single", {"pipeline.yaml": named("single")}, {})
    assert (status, found) == (201, {"name": "single", "digest": manifest.digest, "new": True})
    assert upload(relay, "single", named("single"))[0] == 200
    shown = relay.get("/api/v1/pipelines/single")
    assert shown["digest"] == manifest.digest
    assert [version["digest"] for version in shown["versions"]] == [manifest.digest]
    assert relay.request("GET", "/api/v1/pipelines/single/pipeline.yaml") == (200, named("single"))


def test_what_was_uploaded_last_is_the_latest(relay: Relay) -> None:
    first, second = named("versions"), named("versions") + b"# second\n"
    digests = [upload(relay, "versions", text)[1]["digest"] for text in (first, second)]
    path = "/api/v1/pipelines/versions"
    assert relay.get(path)["digest"] == digests[1]
    upload(relay, "versions", first)
    assert [version["digest"] for version in relay.get(path)["versions"]] == digests
    assert relay.request("GET", f"{path}/pipeline.yaml")[1] == first
    assert relay.request("GET", f"{path}/pipeline.yaml?digest={digests[1]}")[1] == second
    listed = {
        pipeline["name"]: pipeline["digest"] for pipeline in relay.get("/api/v1/pipelines")["pipelines"]
    }
    assert listed["versions"] == digests[0]


def test_json_is_taken_too(relay: Relay) -> None:
    document = {
        "edgeflow": 1, "name": "as-json", "inputs": {"a": {"host": {}}},
        "outputs": {"o": {"from": "a", "event": {}}},
    }  # fmt: skip
    status, found = upload(relay, "as-json", json.dumps(document).encode(), "application/json")
    assert status == 201, found


def test_mistakes_are_those_the_laptop_finds(relay: Relay) -> None:
    _, problems = check(WRONG, "pipeline.yaml", Files(), {})
    assert len(problems) > 1
    status, found = upload(relay, "watch", WRONG.encode())
    assert status == 422
    expected = [msgspec.to_builtins(problem) | {"text": str(problem)} for problem in problems]
    assert found["problems"] == expected
    assert relay.json("GET", "/api/v1/pipelines/watch")[0] == 404


def test_a_name_that_is_not_the_files_is_a_mistake(relay: Relay) -> None:
    status, found = upload(relay, "other", named("watch"))
    assert status == 422
    assert [problem["text"] for problem in found["problems"]] == [
        "pipeline.yaml:2:1: name: it was uploaded as 'other' (upload it as 'watch')"
    ]


MODEL = b"model bytes"
SIGNATURE = Signature((Tensor("x", "float32", (-1, 2)),), (Tensor("y", "float32", (-1, 1)),))
WITH_MODEL = named("modelled").replace(
    b"outputs:", b"  score: {from: stats, model: m.onnx}\noutputs:"
).replace(b"from: stats, event", b"from: score, event")  # fmt: skip


def bundle(**more: bytes) -> tuple[Manifest, dict[str, bytes]]:
    files = {"pipeline.yaml": WITH_MODEL, "m.onnx": MODEL, **more}
    return make_manifest("modelled", files, {"m.onnx": SIGNATURE}), files


def test_a_bundle_keeps_its_manifest_and_its_signatures(relay: Relay, connect: Connect) -> None:
    manifest, files = bundle()
    body = pack({**files, "manifest.json": manifest.encode()})
    status, found = upload(relay, "modelled", body, TAR)
    assert (status, found.get("digest")) == (201, manifest.digest), found
    device = connect(relay, "fetches")
    for data in files.values():
        assert device.fetch(sha256(data)) == data
        assert device.fetch(sha256(data), 3) == data[3:]
        assert device.fetch(sha256(data), len(data)) == b""


def test_a_manifest_that_is_not_of_these_files_is_refused(relay: Relay) -> None:
    manifest, files = bundle()
    body = pack({**files, "m.onnx": b"another", "stray.py": b"", "manifest.json": manifest.encode()})
    status, found = upload(relay, "modelled", body, TAR)
    assert status == 422
    assert [problem["what"] for problem in found["problems"]] == [
        "'m.onnx' is not the file that is listed", "'stray.py' is not listed",
    ]  # fmt: skip
    stray = msgspec.structs.replace(manifest, signatures={"gone.onnx": SIGNATURE})
    status, found = upload(relay, "modelled", pack({**files, "manifest.json": stray.encode()}), TAR)
    assert status == 422
    status, found = upload(relay, "modelled", pack({**files, "manifest.json": b"{}"}), TAR)
    assert status == 422
    assert found["problems"][0]["file"] == "manifest.json"
    deep = b'{"name":"modelled","zz":' + b"[" * 5000 + b"]" * 5000 + b',"files":{}}'
    status, found = upload(relay, "modelled", pack({**files, "manifest.json": deep}), TAR)
    assert (status, found["problems"][0]["what"]) == (422, "it is nested too deeply")


def tar_of(name: str, kind: bytes = tarfile.REGTYPE) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    return out.getvalue()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (tar_of("../../etc/passwd"), "not a file name a bundle may hold"),
        (tar_of("/etc/passwd"), "not a file name a bundle may hold"),
        (tar_of("manifest.json/x"), "manifest.json is the name of the bundle's manifest"),
        (tar_of("link", tarfile.SYMTYPE), "not a regular file"),
        (b"nonsense" * 100, "not a tar file"),
        (b"", "not a tar file"),
    ],
)
def test_hostile_tars_are_refused(relay: Relay, body: bytes, words: str) -> None:
    status, found = upload(relay, "watch", body, TAR)
    assert status == 400
    assert words in found["error"]


def test_what_is_hidden_or_a_cache_is_no_part_of_a_bundle(relay: Relay) -> None:
    plain = {"pipeline.yaml": named("tidy"), "f.py": b""}
    manifest = make_manifest("tidy", plain, {})
    strewn = plain | {".DS_Store": b"1", "__pycache__/f.pyc": b"2", "lib/.git/x": b"3"}
    for files in (strewn, strewn | {"manifest.json": manifest.encode()}):
        status, found = upload(relay, "tidy", pack(files), TAR)
        assert (status, found["digest"]) == (201 if files is strewn else 200, manifest.digest)


def test_a_bundle_without_a_pipeline_is_refused(relay: Relay) -> None:
    status, found = upload(relay, "watch", pack({"other.yaml": b""}), TAR)
    assert (status, found["problems"][0]["what"]) == (422, "the bundle has no pipeline.yaml")


def test_what_is_too_large_is_refused_before_it_is_taken(relay: Relay) -> None:
    for kind, size in ((TAR, 1 << 40), (YAML, 2 << 20)):
        headers = {"Content_Type": kind, "Content_Length": str(size)}
        assert relay.request("PUT", "/api/v1/pipelines/watch", **headers)[0] == 413
    assert upload(relay, "watch", b"#" * ((1 << 20) + 1))[0] == 413
    assert upload(relay, "watch", b"", "text/html")[0] == 415
    assert not list((relay.folder / "store" / "uploads").iterdir())


# on devices


def want(relay: Relay, device: str, name: str, body: bytes | None = None) -> tuple[int, Any]:
    return relay.json("PUT", f"/api/v1/devices/{device}/pipelines/{name}", body)


def test_a_device_is_told_at_once_what_is_desired(relay: Relay, connect: Connect) -> None:
    digest = upload(relay, "told", named("told"))[1]["digest"]
    device = connect(relay, "told-1")
    status, found = want(relay, "told-1", "told")
    assert (status, found) == (202, {"device": "told-1", "name": "told", "digest": digest, "revision": 1})
    eventually(lambda: device.desired[-1].revision == 1, "the wish is sent")
    (wish,) = device.desired[-1].pipelines
    assert (wish.name, wish.digest) == ("told", digest)
    assert decode_manifest(wish.manifest).digest == digest
    assert relay.device("told-1")["desired"] == {"told": digest}
    assert relay.get("/api/v1/pipelines/told")["devices"] == {"told-1": digest}

    status, found = relay.json("DELETE", "/api/v1/devices/told-1/pipelines/told")
    assert (status, found["revision"]) == (202, 2)
    eventually(lambda: device.desired[-1].revision == 2, "the wish is withdrawn")
    assert not device.desired[-1].pipelines
    assert relay.json("DELETE", "/api/v1/devices/told-1/pipelines/told")[0] == 404


def test_a_wish_waits_for_a_device_that_is_away(relay: Relay, connect: Connect) -> None:
    upload(relay, "waits", named("waits"))
    old = relay.get("/api/v1/pipelines/waits")["digest"]
    upload(relay, "waits", named("waits") + b"#\n")
    connect(relay, "away-1").close()
    body = json.dumps({"digest": old}).encode()
    assert want(relay, "away-1", "waits", body)[0] == 202
    device = connect(relay, "away-1")
    eventually(lambda: device.desired, "the wish is sent")
    assert [(wish.name, wish.digest) for wish in device.desired[0].pipelines] == [("waits", old)]


def test_what_became_of_a_wish_is_shown(relay: Relay, connect: Connect) -> None:
    digest = upload(relay, "shown", named("shown"))[1]["digest"]
    device = connect(relay, "shown-1")
    want(relay, "shown-1", "shown")
    device.status(name="unknown-here", digest=digest, state="removed")
    device.status(name="shown", digest=digest, state="refused", reason="no such model", revision=1)
    told = eventually(lambda: relay.device("shown-1")["deployments"], "the status arrives")
    assert told["shown"].pop("at_ns") > 0
    assert told == {"shown": {"digest": digest, "state": "refused", "reason": "no such model", "revision": 1}}


def test_a_store_that_was_put_back_counts_on_from_what_the_device_has_done(
    relay: Relay, connect: Connect
) -> None:
    upload(relay, "ahead", named("ahead"))
    connect(relay, "ahead-1", revision=41)
    assert want(relay, "ahead-1", "ahead")[1]["revision"] == 42


@pytest.mark.parametrize(
    ("device", "name", "body", "status", "words"),
    [
        ("nobody", "known", None, 404, "no device 'nobody'"),
        ("here", "unknown", None, 404, "no pipeline 'unknown'"),
        ("here", "known", b'{"digest": "abc"}', 404, "no version 'abc' of pipeline 'known'"),
        ("here", "known", b'{"digset": "abc"}', 400, "unknown field `digset`"),
        ("here", "known", b"nonsense", 400, "the body is"),
        ("here", "known", b'{"digest":"\xff\xff"}', 400, "the body is"),
        ("here", "known", b'{"digest":' + b"[" * 3990, 400, "the body is"),
        ("here", "known", b"x" * 5000, 413, "5000 bytes"),
    ],
)
def test_wishes_that_cannot_be_are_refused(
    relay: Relay, connect: Connect, device: str, name: str, body: bytes | None, status: int, words: str
) -> None:
    connect(relay, "here")
    upload(relay, "known", named("known"))
    code, found = want(relay, device, name, body)
    assert (code, words in found["error"]) == (status, True), found
