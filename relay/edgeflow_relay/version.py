"""Which EdgeFlow this is."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed


@cache
def version() -> str:
    """Return the installed version, ``0`` when it runs from a folder that was never installed."""
    try:
        return installed("edgeflow")
    except PackageNotFoundError:
        return "0"
