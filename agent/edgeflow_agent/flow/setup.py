"""What a worker was set up with, for the event that tells it."""

from __future__ import annotations

import ast
import os
import platform
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from edgeflow_agent.core import clock, messages
from edgeflow_agent.core.ports import Model, ModelLoader, ModelSetup
from edgeflow_agent.core.version import version
from edgeflow_agent.deploy.bundle import Bundle
from edgeflow_agent.operators.load import GROUP
from edgeflow_proto import setup
from edgeflow_proto.bundle import PIPELINE_FILE
from edgeflow_proto.installed import points
from edgeflow_proto.pipeline.load import load
from edgeflow_proto.pipeline.units import Duration

_ALWAYS = ("numpy", "onnxruntime", "ai_edge_litert", "tflite_runtime")  # told as far as they are loaded


class Models:
    """Loads models (`edgeflow_agent.core.ports.ModelLoader`) and remembers what executes each."""

    def __init__(self, load_model: ModelLoader) -> None:
        self._load = load_model
        self._providers: dict[tuple[Path, str | None], str] = {}

    def __call__(self, path: Path, wanted: ModelSetup) -> Model:
        """Load a model; raises ModelError."""
        model = self._load(path, wanted)
        self._providers[path, wanted.provider] = model.provider
        return model

    def provider(self, path: Path, asked: str | None) -> str:
        """Return what executes a model that was asked to be executed so; empty when it was not loaded."""
        return self._providers.get((path, asked), "")


def setup_of(bundle: Bundle, start: messages.StartWorker, models: Models) -> setup.Setup:
    """Describe a worker whose steps are at work; raises OSError when the bundle cannot be read."""
    functions = {name: file.digest for name, file in bundle.manifest.files.items() if name.endswith(".py")}
    document, _ = load((bundle.folder / PIPELINE_FILE).read_bytes(), PIPELINE_FILE)
    return setup.Setup(
        digest=start.digest, boot_id=clock.boot_id(), params=setup.plain(bundle.graph.params),
        entries=setup.entries(bundle.graph, document.data if document else None),
        versions=_versions(bundle, functions), models=dict(_models(bundle, models)), functions=functions,
        generations={ring.input: ring.generation for ring in start.rings},
        settings={"commit": setup.plain(Duration(start.commit_ns))},
    )  # fmt: skip


def _models(bundle: Bundle, models: Models) -> Iterator[tuple[str, setup.Model]]:
    for step, digest in bundle.models.items():
        options = bundle.graph.steps[step].options
        file, asked = getattr(options, "file", ""), getattr(options, "executor", None)
        provider = models.provider(bundle.folder / file, asked.name if asked else None)
        yield step, setup.Model(file=file, digest=digest, provider=provider)


def _versions(bundle: Bundle, functions: Iterable[str]) -> dict[str, str]:
    """Return the versions of what can bear on the values: platform, plug-ins, and libraries in use."""
    machine = os.uname()
    kinds = {node.kind for node in bundle.graph.steps.values()}
    plugins = {point.dist.name: point.dist.version
               for point in points(GROUP).values() if point.name in kinds and point.dist}  # fmt: skip
    used = {*_ALWAYS, *(name for file in functions for name in _imported(bundle.folder / file))}
    libraries = {name: getattr(sys.modules.get(name), "__version__", None) for name in sorted(used)}
    return {
        "edgeflow": version(), "python": platform.python_version(),
        "kernel": f"{machine.sysname} {machine.release}", "machine": machine.machine,
        **plugins, **{name: str(found) for name, found in libraries.items() if found},
    }  # fmt: skip


def _imported(file: Path) -> Iterator[str]:
    """Yield the top-level modules that a file imports by name."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
