"""What is counted is told."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import edgeflow_relay
from edgeflow_relay.counters import Counters

FOLDER = Path(edgeflow_relay.__file__).parent


def counted() -> Iterator[str]:
    """Yield the names of totals that the relay's code has in it, but for the list of them."""
    for path in FOLDER.rglob("*.py"):
        if path.name != "counters.py":
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and str(node.value).endswith("_total"):
                    yield str(node.value)


def test_every_total_that_is_counted_is_in_the_metrics() -> None:
    text = Counters().text({})
    names = set(counted())
    assert "streams_rivals_total" in names
    assert {name for name in names if f"\nedgeflow_relay_{name} " not in text} == set()
