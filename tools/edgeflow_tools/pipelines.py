"""A pipeline file on this machine, checked with the models beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from edgeflow_agent.core.ports import ModelError
from edgeflow_agent.deploy.bundle import Folder
from edgeflow_agent.models.load import read_signature
from edgeflow_proto.bundle import PIPELINE_FILE, Signature
from edgeflow_proto.pipeline.check import check
from edgeflow_proto.pipeline.graph import Graph
from edgeflow_proto.pipeline.kinds.steps.model import MODEL_FORMATS
from edgeflow_proto.pipeline.load import Source, dotted, load
from edgeflow_proto.pipeline.problem import Path as Place
from edgeflow_proto.pipeline.problem import Problem
from edgeflow_tools.terminal import Failure

SUFFIXES = (".yaml", ".yml", ".json")
IN_FOLDER = (PIPELINE_FILE, "pipeline.json")  # what a folder's pipeline file is called


class Checked(NamedTuple):
    """A pipeline file after its check; `graph` is ``None`` when there are problems."""

    file: Path
    graph: Graph | None
    problems: list[Problem]
    signatures: dict[str, Signature]  # of the models it names


def located(path: Path) -> Path:
    """Return the pipeline file meant by `path`, which is that or its folder; raises Failure."""
    inside = [path / name for name in IN_FOLDER if (path / name).is_file()]
    file = inside[0] if inside else path
    if not file.is_file():
        what = f"has no {PIPELINE_FILE}" if path.is_dir() else "no such file"
        raise Failure(f"{path}: {what}")
    if file.suffix not in SUFFIXES:
        raise Failure(f"{path}: not a pipeline file ({', '.join(SUFFIXES)})")
    return file


def checked(path: Path, params: Mapping[str, Any] | None = None) -> Checked:
    """Check a pipeline file or the one in a folder; raises Failure when it cannot be read at all."""
    file = located(path)
    try:
        text = file.read_bytes()
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}") from None
    signatures, broken = _signatures(text, file)
    graph, problems = check(text, str(file), Folder(file.parent), signatures, params)
    problems = sorted({*broken, *problems})
    return Checked(file, None if problems else graph, problems, signatures)


def _signatures(text: bytes, file: Path) -> tuple[dict[str, Signature], list[Problem]]:
    """Read the models that the steps name; one that cannot be read is a problem of the line that names it."""
    signatures: dict[str, Signature] = {}
    problems = []
    source, _ = load(text, str(file))
    for place, name in _models(source):
        try:
            signatures[name] = read_signature(file.parent / name)
        except ModelError as error:
            assert source is not None
            problems.append(source.problem(place, dotted(place[:2]), str(error)))
    return signatures, problems


def _models(source: Source | None) -> Iterator[tuple[Place, str]]:
    steps = source.data.get("steps") if source is not None and isinstance(source.data, dict) else None
    for place, value in _leaves(steps, ("steps",)):
        if isinstance(value, str) and value.rpartition(".")[2] in MODEL_FORMATS:
            assert source is not None
            if (Path(source.file).parent / value).is_file():  # `check` reports one that is not there
                yield place, value


def _leaves(value: Any, place: Place) -> Iterator[tuple[Place, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*place, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*place, index))
    else:
        yield place, value
