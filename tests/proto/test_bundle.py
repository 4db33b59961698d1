"""Manifests: one form for one content, and names that cannot leave the folder."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow_proto.bundle import (
    MAX_BYTES,
    MAX_FILES,
    Signature,
    Tensor,
    check_file_name,
    decode_manifest,
    make_manifest,
    sha256,
)

FILES = {"pipeline.yaml": b"edgeflow: 1\n", "model.onnx": b"\x08\x07", "lib/features.py": b""}
SIGNATURES = {
    "model.onnx": Signature((Tensor("in", "float32", (-1, 3)),), (Tensor("out", "int8", (1,), 0.5, -3),))
}


def test_the_digest_is_that_of_the_canonical_form() -> None:
    manifest = make_manifest("p", FILES, SIGNATURES)
    canonical = json.dumps(json.loads(manifest.encode()), sort_keys=True, separators=(",", ":")).encode()
    assert manifest.encode() == canonical
    assert manifest.digest == hashlib.sha256(canonical).hexdigest()
    assert manifest.files["model.onnx"].digest == hashlib.sha256(b"\x08\x07").hexdigest()


def test_the_order_in_which_files_were_found_changes_nothing() -> None:
    assert (
        make_manifest("p", dict(reversed(FILES.items())), {}).encode()
        == make_manifest("p", FILES, {}).encode()
    )


def test_any_change_changes_the_digest() -> None:
    first = make_manifest("p", FILES, SIGNATURES)
    others = [
        make_manifest("q", FILES, SIGNATURES),
        make_manifest("p", FILES, {}),
        make_manifest("p", {**FILES, "lib/features.py": b"\n"}, SIGNATURES),
        make_manifest("p", {**FILES, "lib/more.py": b""}, SIGNATURES),
    ]
    assert len({first.digest, *(other.digest for other in others)}) == 5


def test_a_manifest_survives_the_journey() -> None:
    manifest = make_manifest("p", FILES, SIGNATURES)
    assert decode_manifest(manifest.encode()) == manifest


HOSTILE = [
    "", ".", "..", "/etc/passwd", "../up", "a/../../up", "a//b", "a/", "./a", "a/.", "a\\b", "C:\\x", "a\0b",
    "a\nb", "a\x1bb", "\ud800", "x" * 256, "é" * 128,
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a file name a bundle may hold"):
        check_file_name(name)
    with pytest.raises(ValueError, match="not a file name a bundle may hold"):
        make_manifest("p", {**FILES, name: b""}, {})


@pytest.mark.parametrize(
    "name", ["a", "a.b", ".hidden", "a/b/c.py", "…é日本", "two words.csv", "...", "é" * 127]
)
def test_plain_names_are_fine(name: str) -> None:
    check_file_name(name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("manifest.json", "lists manifest.json, which is itself"),
        ("manifest.json/x", "manifest.json is the name of the bundle's manifest, not of a folder"),
        (".hidden", "'.hidden' is hidden"),
        ("a/.git/b", "hidden"),
        ("__pycache__/x.pyc", "cache of Python"),
    ],
)
def test_what_no_bundle_holds_is_in_no_manifest(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_manifest("p", {**FILES, name: b""}, {})
    with pytest.raises(ValueError, match=words):
        decode_manifest(encoded(files={"pipeline.yaml": ENTRY, name: ENTRY}))


@pytest.mark.parametrize("name", ["a/manifest.json", "manifest.json5", "a.b/c", "x__pycache__"])
def test_names_that_only_look_alike_are_in_a_manifest(name: str) -> None:
    assert name in make_manifest("p", {**FILES, name: b""}, {}).files


@given(st.text(max_size=40))
def test_what_is_a_fine_name_stays_inside(name: str) -> None:
    try:
        check_file_name(name)
    except ValueError:
        return
    assert not name.startswith("/")
    assert not {"", ".", ".."} & set(name.split("/"))


def encoded(**changes: Any) -> bytes:
    manifest = json.loads(make_manifest("p", FILES, SIGNATURES).encode())
    return json.dumps(manifest | changes).encode()


ENTRY = {"digest": sha256(b""), "size": 0}


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "manifest: Input data was truncated"),
        (b"[]", "manifest: Expected `object`"),
        (b"\xff", "manifest: JSON is malformed"),
        (b'{"x":' + b"[" * 100_000, "manifest: it is nested too deeply"),
        (encoded(name="../up"), "manifest: not a pipeline's name: '../up'"),
        (encoded(files={}), "manifest: no pipeline.yaml"),
        (
            encoded(files={"pipeline.yaml": ENTRY, "../up": ENTRY}),
            "not a file name a bundle may hold: '../up'",
        ),
        (
            encoded(files={"pipeline.yaml": ENTRY | {"digest": "../../etc/passwd"}}),
            "no proper digest and size",
        ),
        (encoded(files={"pipeline.yaml": ENTRY | {"digest": "A" * 64}}), "no proper digest and size"),
        (encoded(files={"pipeline.yaml": ENTRY | {"size": -1}}), "no proper digest and size"),
        (encoded(files={"pipeline.yaml": ENTRY | {"size": MAX_BYTES + 1}}), "at most 256 files and 512 MiB"),
        (
            encoded(files={"pipeline.yaml": ENTRY} | {f"f{i}": ENTRY for i in range(MAX_FILES)}),
            "at most 256 files",
        ),
        (encoded(files={"pipeline.yaml": ENTRY, "a": ENTRY, "a/b": ENTRY}), "a is both a file and a folder"),
        (encoded(files={"pipeline.yaml": {}}), "missing required field"),
    ],
)
def test_a_wrong_manifest_is_refused(data: bytes, what: str) -> None:
    with pytest.raises(ValueError, match=r"manifest|file name|at most") as refused:
        decode_manifest(data)
    assert what in str(refused.value)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_manifest_or_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="manifest"):
        decode_manifest(data)
