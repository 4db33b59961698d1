"""A file system of its own, small enough to fill."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

OPTIONS = "loop,noatime,errors=remount-ro"
PATH = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"


@contextlib.contextmanager
def small_disk(path: Path, size: int) -> Iterator[Path]:
    """Mount a tmpfs of `size` bytes at a folder; skips the test where that is not allowed."""
    path.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=777", "tmpfs", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here, which takes root: {done.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@contextlib.contextmanager
def loop_disk(path: Path, size: int) -> Iterator[Path]:
    """Mount an ext4 of `size` bytes at a folder, from a file beside it; skips the test where it cannot be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = path.with_name(path.name + ".image")
    image.write_bytes(b"")
    os.truncate(image, size)
    made = ["mke2fs", "-q", "-t", "ext4", "-m", "0", "-F", str(image)]
    with _mounted(path, made, ["mount", "-o", OPTIONS, str(image), str(path)]):
        yield path


@contextlib.contextmanager
def _mounted(path: Path, *commands: list[str]) -> Iterator[None]:
    """Run what mounts a file system at a folder; skips the test where it cannot be."""
    path.mkdir(exist_ok=True)
    for command in commands:
        if shutil.which(command[0], path=PATH) is None:
            pytest.skip(f"{command[0]} is not here")
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": PATH})
        if done.returncode:
            pytest.skip(
                f"no file system can be mounted from a file here, which takes root: {done.stderr.strip()}"
            )
    path.chmod(0o777)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@contextlib.contextmanager
def failing_disk(path: Path, size: int) -> Iterator[tuple[Path, Path]]:
    """Mount a disk of `size` bytes whose blocks cannot be written once the folder below it is full.

    Yields both folders. Without a journal of its own, the file system stays writable and goes on as soon as
    the disk does.
    """
    with small_disk(path.with_name(path.name + ".below"), size) as below:
        image = below / "image"
        image.write_bytes(b"")
        os.truncate(image, size)
        made = ["mke2fs", "-q", "-t", "ext2", "-m", "0", "-F", str(image)]
        with _mounted(path, made, ["mount", "-o", "loop,noatime,errors=continue", str(image), str(path)]):
            yield path, below


def turn_read_only(path: Path) -> None:
    """Let an error turn a `loop_disk` read-only, as a worn card does."""
    found = subprocess.run(
        ["findmnt", "-no", "SOURCE", str(path)], capture_output=True, text=True, check=True
    )
    trigger = Path("/sys/fs/ext4") / Path(found.stdout.strip()).name / "trigger_fs_error"
    if not trigger.exists():
        pytest.skip("this kernel's ext4 lets nobody cause an error")
    trigger.write_text("as a test asks for\n")


def mend(path: Path) -> None:
    """Mount a `loop_disk` anew, which nobody may be using."""
    subprocess.run(["umount", str(path)], check=True)
    image = path.with_name(path.name + ".image")
    subprocess.run(["mount", "-o", OPTIONS, str(image), str(path)], check=True)


def remount(path: Path, mode: str) -> None:
    """Make it writable (``rw``) or not (``ro``)."""
    subprocess.run(["mount", "-o", f"remount,{mode}", str(path)], check=True)


def fill(path: Path) -> Path:
    """Fill the disk to the last byte; return the file that does."""
    filler = path / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 16, 4096, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    pass
    return filler
