from __future__ import annotations

import io
import tarfile
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow_proto.archive import pack, unpack
from edgeflow_proto.bundle import MAX_FILES, check_file_name, left_out

FILES = {"pipeline.yaml": b"edgeflow: 1\n", "models/a.onnx": bytes(1000), "empty.py": b""}


def tar(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def member(name: str, data: bytes = b"x", kind: bytes = tarfile.REGTYPE) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data)
    if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        info.linkname, info.size = "/etc/passwd", 0
    return info, data


def with_size(claim: Callable[[tarfile.TarInfo], None]) -> bytes:
    """Return one header that claims a size of its own, and nothing behind it."""
    info = tarfile.TarInfo("pipeline.yaml")
    claim(info)
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


def test_files_come_back_as_they_were() -> None:
    assert unpack(pack(FILES)) == FILES
    assert unpack(pack({})) == {}


def test_the_same_files_give_the_same_bytes() -> None:
    assert pack(FILES) == pack(dict(reversed(FILES.items())))


def fit(name: str) -> bool:
    try:
        check_file_name(name)
    except ValueError:
        return False
    return not left_out(name)


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=255).filter(fit)


@given(st.dictionaries(names.map(lambda name: name.replace("/", "-")), st.binary(max_size=600), max_size=5))
def test_any_names_and_contents_come_back(files: dict[str, bytes]) -> None:
    assert unpack(pack(files)) == files


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_others_pack_is_read(form: int) -> None:
    long = "f/" * 20 + "n" * 90 + ".py"
    members = [member(".", b"", tarfile.DIRTYPE), member("./models", b"", tarfile.DIRTYPE)]
    data = tar(*members, member("./pipeline.yaml"), member("models/a.onnx"), member(long), form=form)
    assert unpack(data) == {"pipeline.yaml": b"x", "models/a.onnx": b"x", long: b"x"}


def test_attributes_that_change_nothing_are_passed_over() -> None:
    info, data = member("pipeline.yaml")
    info.pax_headers = {"mtime": "1700000000.25", "SCHILY.xattr.user.note": "hello"}
    assert unpack(tar((info, data), form=tarfile.PAX_FORMAT)) == {"pipeline.yaml": b"x"}


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../escape", "a/../../b", "a//b", "a\\b", "..", "n" * 256, "a/./b"]
)
def test_names_that_could_leave_the_bundle_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a file name a bundle may hold"):
        unpack(tar(member(name)))
    with pytest.raises(ValueError, match="not a file name a bundle may hold"):
        pack({name: b""})


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE, b"Z"],
)
def test_nothing_but_files_is_taken(kind: bytes) -> None:
    with pytest.raises(ValueError, match="'evil' is not a regular file"):
        unpack(tar(member("evil", b"", kind)))


def test_a_sparse_file_of_any_claimed_size_is_not_blown_up() -> None:
    info, data = member("huge")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.realsize": str(1 << 40)}
    with pytest.raises(ValueError, match=r"cannot read a file with GNU\.sparse"):
        unpack(tar((info, data), form=tarfile.PAX_FORMAT))


@pytest.mark.parametrize("size", [-512, -(1 << 40), 2048, 1 << 50])
def test_sizes_are_not_believed(size: int) -> None:
    with pytest.raises(ValueError, match=rf"says it has {size} bytes"):
        unpack(with_size(lambda info: setattr(info, "size", size)))


def test_a_chain_of_extended_headers_ends() -> None:
    chain = tar(member("n" * 200, b""))[:1024] * 5000
    with pytest.raises(ValueError, match="more than 2048 entries"):
        unpack(chain)


def test_a_name_stands_for_one_thing() -> None:
    with pytest.raises(ValueError, match="is there twice"):
        unpack(tar(member("a"), member("a")))
    with pytest.raises(ValueError, match="both a file and a folder"):
        unpack(tar(member("a"), member("a/b/c")))


def test_what_is_hidden_or_a_cache_is_left_out_whatever_it_is() -> None:
    names = (".DS_Store", "._pipeline.yaml", ".git/a", "lib/.x", "__pycache__/a.pyc", "lib/__pycache__/a.pyc")
    links = member(".venv/a", kind=tarfile.SYMTYPE), member(".venv/b", kind=tarfile.LNKTYPE)
    many = (member(f".git/{i}") for i in range(MAX_FILES + 1))
    strewn = tar(member("./pipeline.yaml"), *map(member, names), *links, *many)
    assert unpack(strewn) == {"pipeline.yaml": b"x"}
    with pytest.raises(ValueError, match="not a file name a bundle may hold"):
        unpack(tar(member(".git/../../x")))


def test_the_manifest_is_no_folder() -> None:
    assert unpack(tar(member("manifest.json"))) == {"manifest.json": b"x"}
    with pytest.raises(ValueError, match=r"manifest\.json is the name of the bundle's manifest"):
        unpack(tar(member("manifest.json/x")))
    with pytest.raises(ValueError, match=r"manifest\.json is the name of the bundle's manifest"):
        pack({"manifest.json/x": b""})


def test_more_files_than_a_bundle_holds_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 256 files"):
        unpack(tar(*(member(f"f{i}") for i in range(MAX_FILES + 1))))


@pytest.mark.parametrize("data", [b"", b"edgeflow: 1\n", b"\x1f\x8b" + bytes(600), b"PK\x03\x04" * 300])
def test_what_is_no_tar_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a tar file"):
        unpack(data)


@given(st.integers(0, 4000), st.binary(max_size=40))
def test_damage_is_refused_or_harmless(at: int, damage: bytes) -> None:
    data = bytearray(pack(FILES | {"ü" * 60: b"y"}))
    data[at : at + len(damage)] = damage
    try:
        files = unpack(bytes(data))
    except ValueError:
        return
    assert sum(map(len, files.values())) <= len(data)
