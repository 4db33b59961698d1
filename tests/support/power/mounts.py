"""Mounting: the disk that records, and the images of cuts. For root, with FUSE and loop devices."""

from __future__ import annotations

import contextlib
import ctypes.util
import os
import shlex
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import end, eventually

REPOSITORY = Path(__file__).resolve().parents[3]
PROGRAMS = {"losetup": "mount", "mount": "mount", "mke2fs": "e2fsprogs", "unshare": "util-linux"}
PATH = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"


def missing() -> str:
    """Return why no plug can be pulled here, "" when it can."""
    if os.geteuid() != 0:
        return "power cuts need root, to mount what is left of a disk"
    for device in ("/dev/fuse", "/dev/loop-control"):
        if not os.path.exists(device):
            return f"power cuts need {device}, which is not here"
    if not (ctypes.util.find_library("fuse") or ctypes.util.find_library("fuse3")):
        return "power cuts need libfuse (Debian package fuse3)"
    for program, package in PROGRAMS.items():
        if shutil.which(program, path=PATH) is None:
            return f"power cuts need {program} (Debian package {package})"
    return ""


def tool(*command: str) -> str:
    """Run a program of the system; raises OSError with what it printed when it fails."""
    environment = {**os.environ, "PATH": PATH}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout.strip()


def unmount(folder: Path) -> None:
    """Unmount; the kernel may take a moment to let go of what the last process there had open."""
    eventually(lambda: not tool("umount", str(folder)), f"{folder} is unmounted", 20)


def empty_ext4(folder: Path, size: int) -> bytes:
    """Return `size` bytes with an empty ext4 as an SD card has it: blocks of 4 KiB, and a journal."""
    image = folder / "empty"
    image.write_bytes(bytes(size))
    now = "nodiscard,lazy_itable_init=0,lazy_journal_init=0"  # nothing is left for the kernel to do later
    tool("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-m", "0", "-E", now, str(image))
    return image.read_bytes()


@contextlib.contextmanager
def mounted(source: Path, folder: Path, *options: str) -> Iterator[Path]:
    """Mount an ext4 in a file or on a device."""
    folder.mkdir(exist_ok=True)
    tool("mount", "-t", "ext4", "-o", ",".join(("noatime", *options)), str(source), str(folder))
    try:
        yield folder
    finally:
        unmount(folder)


@contextlib.contextmanager
def left(content: bytes, folder: Path) -> Iterator[Path]:
    """Mount what is left of a disk; ext4 replays its own journal first. Raises OSError when it cannot."""
    image = folder / "left"
    image.write_bytes(content)
    with mounted(image, folder / "mnt", "loop") as path:
        yield path


@contextlib.contextmanager
def memory(folder: Path) -> Iterator[Path]:
    """Mount memory at a folder: images of disks come and go there without wearing a real one."""
    folder.mkdir()
    tool("mount", "-t", "tmpfs", "power-cuts", str(folder))
    try:
        yield folder
    finally:
        unmount(folder)


@dataclass(frozen=True)
class Recorded:
    """A mounted disk whose every write is recorded. What is written to `told` goes into the same log."""

    image: bytes  # before the first write
    log: Path
    told: Path
    path: Path
    process: subprocess.Popen[bytes]


@contextlib.contextmanager
def recorded(folder: Path, before: bytes) -> Iterator[Recorded]:
    """Mount a disk that holds `before` and records; all is unmounted at the end."""
    folder.mkdir(parents=True)
    image, log, fuse = folder / "image", folder / "log", folder / "fuse"
    image.write_bytes(before)
    fuse.mkdir()
    command = [sys.executable, "-m", "tests.support.power.disk", str(image), str(log), str(fuse)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=REPOSITORY)
    try:
        eventually((fuse / "disk").exists, "the disk is served")
        with _loop(fuse / "disk") as device, mounted(device, folder / "mnt") as path:
            yield Recorded(before, log, fuse / "told", path, process)
    finally:
        unmount(fuse)
        end(process)


def other_boot(folder: Path) -> list[str]:
    """Return the command that runs another as after a reboot: the kernel's boot id is a new one for it."""
    boot = folder / "boot_id"
    boot.write_text(f"{uuid.uuid4()}\n")
    bind = f'mount --bind {shlex.quote(str(boot))} /proc/sys/kernel/random/boot_id && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", bind, "sh"]


@contextlib.contextmanager
def _loop(file: Path) -> Iterator[Path]:
    device = tool("losetup", "--find", "--show", "--direct-io=on", str(file))
    try:
        yield Path(device)
    finally:
        tool("losetup", "--detach", device)
