"""From a model file to a model at work, by the ending of its name."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

from edgeflow_agent.core.ports import Model, ModelError, ModelLoader, ModelSetup
from edgeflow_proto.bundle import Signature
from edgeflow_proto.installed import points

GROUP = "edgeflow.models"

_PLAIN = ModelSetup()
_kept: list[Model] = []  # taking a model down can take the process with it


@cache
def _formats() -> dict[str, Callable[[], ModelLoader]]:
    return {name: point.load for name, point in points(GROUP).items()}


def load_model(path: Path, setup: ModelSetup = _PLAIN) -> Model:
    """Load a model, which stays loaded until the process ends; raises ModelError naming the file and why."""
    runtime = _formats().get(path.suffix.removeprefix("."))
    if runtime is None:
        raise ModelError(f"{path.name}: no runtime for this format (known: {', '.join(sorted(_formats()))})")
    if not path.is_file():
        raise ModelError(f"{path.name}: no such file")
    model = runtime()(path, setup)
    _kept.append(model)
    if setup.required and model.provider != setup.provider:
        raise ModelError(
            f"{path.name}: needs {setup.provider}, but only {model.provider} is here to execute it"
        )
    return model


def read_signature(path: Path) -> Signature:
    """Return what a model takes and gives; raises ModelError as `load_model` does."""
    return load_model(path).signature
