"""What is installed and adds kinds to EdgeFlow, the built-in ones like anyone else's.

Source: Python Packaging User Guide, "Entry points specification".
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import cast


@cache
def points(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name, as they are when a process first asks."""
    return {point.name: point for point in _all().select(group=group)}


@cache
def _all() -> EntryPoints:
    return cast("EntryPoints", entry_points())  # reads a file of each distribution
