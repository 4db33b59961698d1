"""Run the benchmarks and print their table: ``python -m benchmarks.run [NAME …] [--json]``."""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
import time

from benchmarks.common import HEADER, Result, note

NAMES = ("inference", "graph", "ring", "mqtt", "latency", "journal", "recording", "wear", "memory", "start")


def main() -> None:
    """Run the named benchmarks, all without a name."""
    os.environ.pop(
        "PYTHONDONTWRITEBYTECODE", None
    )  # for what is started: an installed agent has its bytecode
    names = [name for name in sys.argv[1:] if not name.startswith("-")] or list(NAMES)
    results: list[Result] = []
    for name in names:
        note(f"{name} …")
        results += importlib.import_module(f"benchmarks.{name}").measure()
    if "--json" in sys.argv:
        print(json.dumps([result.plain() for result in results], indent=2))
        return
    print(
        f"{platform.machine()}, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}\n\n{HEADER}"
    )
    for result in results:
        print(result.row())


if __name__ == "__main__":
    main()
