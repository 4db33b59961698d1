"""A real relay process whose ports stay the same over restarts."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.processes import end, eventually, free_port


class Relay:
    """`edgeflow relay` with a store of its own."""

    def __init__(self, folder: Path, *extra: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.http, self.grpc = free_port(), free_port()
        self.extra = extra
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    def start(self) -> Relay:
        command = [
            sys.executable, "-m", "edgeflow_tools.cli", "relay", "--http-port", str(self.http),
            "--grpc-port", str(self.grpc), "--data", str(self.folder / "store"), *self.extra,
        ]  # fmt: skip
        with (self.folder / "relay.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        eventually(lambda: self.json("/healthz", raw=True), "the relay answers")
        return self

    def stop(self) -> None:
        if self.process is not None:
            end(self.process)
            self.process = None

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def json(self, path: str, *, raw: bool = False) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=30) as response:
            body = response.read()
        return body if raw else json.loads(body)

    def events(self, pipeline: str = "") -> list[dict[str, Any]]:
        """Return every event the relay holds, in the order of arrival."""
        out: list[dict[str, Any]] = []
        after = ""
        while True:
            page = self.json(f"/api/v1/events?limit=1000&pipeline={pipeline}&after={after}")
            out += page["events"]
            if not page["events"] or page["next"] in (None, after):
                return out
            after = page["next"]
