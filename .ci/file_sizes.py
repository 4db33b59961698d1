"""Refuse files that have grown too long to be read at one sitting; run by `make lint`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LIMIT = 500  # lines
GENERATED = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")


def main() -> int:
    """Print each Python file over the limit and return 1 when there is one."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.py", "*.pyi"]
    names = subprocess.run(listing, check=True, capture_output=True, text=True).stdout.split("\0")
    written = [Path(name) for name in names if name and not name.endswith(GENERATED)]
    sizes = {path: len(path.read_text().splitlines()) for path in written if path.exists()}
    too_long = {path: size for path, size in sizes.items() if size > LIMIT}
    for path, size in too_long.items():
        print(f"{path}: {size} lines, {LIMIT} allowed; split it by the nouns in it", file=sys.stderr)
    return 1 if too_long else 0


if __name__ == "__main__":
    sys.exit(main())
