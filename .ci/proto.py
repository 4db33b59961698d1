"""Generate Python from the wire messages, or check that what is committed is what they generate.

Run by `make proto` and `make proto-check`. A gRPC binding is made only for a file that declares a
service: messages are imported where gRPC may not be.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "proto"
SOURCES = sorted(ROOT.glob("edgeflow_proto/v*/*.proto"))
GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py")


def main(arguments: list[str]) -> int:
    """Write the generated files, or with `--check` compare them and return 1 when they differ."""
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh, committed = contents(Path(scratch)), contents(ROOT)
    stale = sorted(name for name in fresh | committed if fresh.get(name) != committed.get(name))
    if "--check" in arguments:
        return report(stale)
    for name in stale:
        write(ROOT / name, fresh.get(name))
    return 0


def generate(target: Path) -> None:
    """Run protoc over all sources; files land under `target` as they lie under `proto/`."""
    with_service = [path for path in SOURCES if "\nservice " in path.read_text()]
    protoc(SOURCES, f"--python_out={target}", f"--pyi_out={target}")
    protoc(with_service, f"--grpc_python_out={target}")


def protoc(sources: list[Path], *outputs: str) -> None:
    """Run the compiler; its own message goes to stderr and a failure ends the program."""
    if sources:
        names = [str(path.relative_to(ROOT)) for path in sources]
        subprocess.run(
            [sys.executable, "-m", "grpc_tools.protoc", "-I.", *outputs, *names], cwd=ROOT, check=True
        )


def contents(root: Path) -> dict[str, str]:
    """Return the text of every generated file under `root`, by its path from there."""
    found = (path for pattern in GENERATED for path in root.rglob(pattern))
    return {str(path.relative_to(root)): path.read_text() for path in found}


def report(stale: list[str]) -> int:
    """Name the files that differ on stderr and return the exit code."""
    for name in stale:
        print(f"proto/{name}: not what the .proto files generate; run `make proto`", file=sys.stderr)
    return 1 if stale else 0


def write(path: Path, text: str | None) -> None:
    """Write one generated file, or remove it when nothing generates it any more."""
    if text is None:
        path.unlink()
    else:
        path.write_text(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
