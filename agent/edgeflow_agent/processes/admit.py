"""Admission: a bundle is tried in a process of its own before it may run.

Called with a folder; checks the document, imports its Python and calls it with made-up rows, loads its
models, writes the manifest into the folder, and prints a `Verdict` as a line of JSON; the last one holds.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from edgeflow_agent.core.errors import reason
from edgeflow_agent.deploy.verdict import Verdict
from edgeflow_proto.bundle import (
    MANIFEST_FILE,
    PIPELINE_FILE,
    Signature,
    decode_manifest,
    left_out,
    make_manifest,
)
from edgeflow_proto.pipeline.check import check
from edgeflow_proto.pipeline.graph import Graph
from edgeflow_proto.pipeline.kinds.steps.model import MODEL_FORMATS
from edgeflow_proto.pipeline.load import dotted, load
from edgeflow_proto.pipeline.problem import Problem

if TYPE_CHECKING:
    from edgeflow_agent.runtime.plan import Plan

REHEARSAL_S = 10
STUCK = f"calling its Python with made-up rows ended the trial's process, or took longer than {REHEARSAL_S} s"


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the files of a bundle's folder by relative name, but for the manifest and what is left out."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {
        name: path.read_bytes()
        for name, path in names.items()
        if name != MANIFEST_FILE and not left_out(name)
    }


def signatures_of(folder: Path, names: list[str]) -> tuple[dict[str, Signature], list[Problem]]:
    """Read the signatures of the models among `names`; what cannot be read is a problem."""
    from edgeflow_agent.core.ports import ModelError
    from edgeflow_agent.models.load import read_signature

    signatures, problems = {}, []
    for name in names:
        if name.rpartition(".")[2] in MODEL_FORMATS:
            try:
                signatures[name] = read_signature(folder / name)
            except ModelError as error:
                problems.append(Problem(name, 1, 1, "", str(error)))
    return signatures, problems


class _Memory:
    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def read(self, name: str) -> bytes | None:
        return self._files.get(name)


def _unheard(_: Verdict) -> None:
    pass


def admit(folder: Path, params: dict[str, object], so_far: Callable[[Verdict], object] = _unheard) -> Verdict:
    """Try a bundle; raises nothing that a bundle can cause.

    Before the author's Python is called, `so_far` is given the verdict for where that ends the process.
    """
    files = files_of(folder)
    if PIPELINE_FILE not in files:
        return Verdict(problems=[Problem(PIPELINE_FILE, 1, 1, "", "the bundle has no such file")])
    signatures, problems = signatures_of(folder, list(files))
    graph, found = check(files[PIPELINE_FILE], PIPELINE_FILE, _Memory(files), signatures, params)
    problems += found
    if graph is None or problems:
        return Verdict(problems=problems)
    plan = _load(graph, folder)
    if isinstance(plan, dict):
        return Verdict(graph.name, problems=_placed(plan, files[PIPELINE_FILE]))
    verdict = _named(folder, graph.name, files, signatures)
    if verdict.problems:
        return verdict
    so_far(replace(verdict, warnings=(STUCK,)))
    return _rehearsed(verdict, graph, plan, files[PIPELINE_FILE])


def _rehearsed(verdict: Verdict, graph: Graph, plan: Plan, document: bytes) -> Verdict:
    from edgeflow_agent.flow.rehearse import rehearse

    found = rehearse(graph, plan)
    if found.wrong:
        return Verdict(graph.name, problems=_placed(found.wrong, document))
    warnings = (f"steps.{step}: raises on made-up rows: {what[:300]}" for step, what in found.raised.items())
    return replace(verdict, warnings=tuple(warnings))


def _placed(failures: dict[str, str], document: bytes) -> list[Problem]:
    """Return what is wrong with steps as problems of the lines that make them."""
    source, _ = load(document, PIPELINE_FILE)
    assert source is not None
    places = {step: ("steps", step) if step else () for step in failures}
    return [source.problem(place, dotted(place), failures[step]) for step, place in places.items()]


def _named(folder: Path, name: str, files: dict[str, bytes], signatures: dict[str, Signature]) -> Verdict:
    """Keep the manifest that came along when it says what was found here; without one, write the one made."""
    path = folder / MANIFEST_FILE
    try:
        made = make_manifest(name, files, signatures)
        sent = decode_manifest(path.read_bytes()) if path.exists() else made
    except (OSError, ValueError) as error:
        return Verdict(name, problems=[Problem(MANIFEST_FILE, 1, 1, "", str(error))])
    models = [file for file, signature in sent.signatures.items() if made.signatures.get(file) != signature]
    if models or (sent.name, sent.files) != (made.name, made.files):
        what = f"the signature of {models[0]} is another one here" if models else "it describes other files"
        return Verdict(name, problems=[Problem(MANIFEST_FILE, 1, 1, "", what)])
    path.write_bytes(sent.encode())
    return Verdict(sent.name, sent.digest)


def _load(graph: Graph, folder: Path) -> Plan | dict[str, str]:
    """Import and load all that the worker will; return it, or why it cannot be, by step."""
    from edgeflow_agent.models.load import load_model
    from edgeflow_agent.operators.load import operators
    from edgeflow_agent.runtime.plan import PlanError, compile_plan

    try:
        kinds = {node.kind for node in graph.steps.values()}
        return compile_plan(graph, folder, operators(kinds), load_model)
    except PlanError as error:
        return {error.step: f"cannot be set to work: {error.what}"}
    except Exception as error:  # the author's module may do anything when imported
        return {"": f"cannot be set to work: {reason(error)}"}


def main() -> int:
    """Admit the folder named on the command line; parameters come as JSON on standard input."""
    out = os.dup(1)
    os.dup2(2, 1)  # what the author's module prints is not the verdict
    params = msgspec.json.decode(sys.stdin.buffer.read() or b"{}", type=dict[str, object])
    with os.fdopen(out, "wb") as stream:

        def say(verdict: Verdict) -> None:
            stream.write(msgspec.json.encode(verdict) + b"\n")
            stream.flush()
            signal.alarm(REHEARSAL_S)

        say(admit(Path(sys.argv[1]), params, say))
    return 0


if __name__ == "__main__":
    code = main()
    os._exit(code)  # model runtimes can crash at teardown
