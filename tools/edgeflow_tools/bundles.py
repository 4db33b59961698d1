"""From a pipeline on this machine to the bundle that a device is given.

A `pipeline.yaml` or `pipeline.json` stands for its folder and takes all of it along but for hidden files and
`tests/`. Any other file takes what it names and the Python beside it: many pipelines can share a folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeflow_agent.processes.admit import files_of
from edgeflow_proto.bundle import MAX_BYTES, PIPELINE_FILE, Manifest, make_manifest, sha256
from edgeflow_proto.pipeline.graph import Graph
from edgeflow_proto.pipeline.kinds.steps.model import Model
from edgeflow_tools.pipelines import IN_FOLDER, Checked

TESTS = "tests"  # the folder of the author's cases, of no use to a device


def bundle(checked: Checked) -> tuple[Manifest, dict[str, bytes]]:
    """Return the manifest and files of a pipeline without problems; raises ValueError or OSError.

    ValueError says that it is more than a bundle may hold.
    """
    assert checked.graph is not None
    folder = checked.file.parent
    if checked.file.name in IN_FOLDER:
        _check_size(folder)
        found = files_of(folder)
        files = {name: found[name] for name in found if not name.startswith(f"{TESTS}/")}
        files[PIPELINE_FILE] = files.pop(checked.file.name)
    else:
        names = {*_named(checked.graph, folder), *_python(folder)}
        files = {name: (folder / name).read_bytes() for name in sorted(names)}
        files[PIPELINE_FILE] = checked.file.read_bytes()
    signatures = {name: value for name, value in checked.signatures.items() if name in files}
    return make_manifest(checked.graph.name, files, signatures), files


def model_digests(graph: Graph, folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each model step's file; raises OSError."""
    models = {
        name: node.options.file for name, node in graph.steps.items() if isinstance(node.options, Model)
    }
    return {step: sha256((folder / file).read_bytes()) for step, file in models.items()}


def _check_size(folder: Path) -> None:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > 2 * MAX_BYTES:  # before all of it is read; what is hidden does not count in the end
        raise ValueError(f"{folder} holds {size >> 20} MiB; a bundle holds at most {MAX_BYTES >> 20} MiB")


def _named(graph: Graph, folder: Path) -> Iterator[str]:
    """Yield the files that options name."""
    nodes: list[Any] = [*graph.inputs.values(), *graph.steps.values()]
    for node in nodes:
        for option in ("file", "path", "labels"):
            name = getattr(node.options, option, None)
            if isinstance(name, str) and not Path(name).is_absolute() and (folder / name).is_file():
                yield name


def _python(folder: Path) -> Iterator[str]:
    yield from (path.name for path in folder.glob("*.py") if not path.name.startswith("."))
