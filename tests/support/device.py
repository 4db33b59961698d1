"""A real agent with a store and settings of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from tests.support.processes import alive, children_of, end, eventually, kill


class Device:
    """`edgeflow agent` as a process; its endpoint, its children, its end."""

    def __init__(
        self, folder: Path, *, broker: int | None = None, relay: int | None = None, **settings: Any
    ) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.pipelines = folder / "pipelines.d"
        self.pipelines.mkdir(parents=True, exist_ok=True)
        document: dict[str, Any] = {
            "device": "dev1",
            "data": str(self.store),
            "http": {"port": 0},
            **settings,
        }
        document["brokers"] = {"local": {"port": broker}} if broker else {}
        if relay:
            document["relay"] = f"127.0.0.1:{relay}"
        self.config = folder / "device.yaml"
        self.config.write_text(json.dumps(document))
        self.process: subprocess.Popen[bytes] | None = None
        self.prefix: list[str] = []  # command that runs the agent's

    @property
    def log(self) -> str:
        return (self.folder / "agent.log").read_text(errors="replace")

    def start(self) -> Device:
        (self.store / "run" / "link.json").unlink(missing_ok=True)
        agent = [sys.executable, "-m", "edgeflow_tools.cli", "agent", "--config", str(self.config)]
        command = [*self.prefix, *agent]
        with (self.folder / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        eventually(lambda: self.text("/healthz"), "the device's endpoint answers")
        return self

    def stop(self) -> int:
        assert self.process is not None
        end(self.process)
        code, self.process = self.process.returncode, None
        return code

    def close(self) -> None:
        if self.process is not None:
            self.stop()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def child(self, name: str) -> int:
        return eventually(lambda: children_of(self.pid, f"edgeflow {name}"), f"{name} runs")[0]

    def workers(self) -> list[int]:
        return children_of(self.pid, "edgeflow worker")

    def kill(self, name: str) -> int:
        pid = self.child(name)
        kill(pid)
        eventually(lambda: not alive(pid), f"{name} is gone")
        return pid

    def kill_agentd(self) -> list[int]:
        assert self.process is not None
        children = [child.pid for child in psutil.Process(self.pid).children(recursive=True)]
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process = None
        return children

    # its endpoint

    @property
    def url(self) -> str:
        port = json.loads((self.store / "run" / "link.json").read_text())["http"]
        return f"http://127.0.0.1:{port}"

    def request(
        self, method: str, path: str, body: bytes | None = None, content: str = ""
    ) -> tuple[int, bytes]:
        request = urllib.request.Request(self.url + path, data=body, method=method)
        if content:
            request.add_header("Content-Type", content)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def text(self, path: str) -> str:
        return self.request("GET", path)[1].decode()

    def json(self, path: str) -> Any:
        return json.loads(self.text(path))

    def deploy(self, pipeline: str, text: str) -> None:
        path = f"/api/v1/pipelines/{pipeline}"
        status, body = self.request("PUT", path, text.encode(), "application/yaml")
        assert status in (200, 201), body.decode()
        eventually(lambda: self.pipeline(pipeline)["state"] == "running", f"{pipeline} runs")

    def pipeline(self, name: str) -> dict[str, Any]:
        status, body = self.request("GET", f"/api/v1/pipelines/{name}")
        assert status == 200, body.decode()
        found: dict[str, Any] = json.loads(body)
        return found

    def events(self, pipeline: str = "", kind: str = "") -> list[dict[str, Any]]:
        """Return every event of the device, oldest first."""
        out: list[dict[str, Any]] = []
        after = ""
        while True:
            page = self.json(f"/api/v1/events?limit=1000&pipeline={pipeline}&type={kind}&after={after}")
            out += page["events"]
            if not page["events"] or page["next"] == after:
                return out
            after = page["next"]

    def events_on_disk(self, pipeline: str) -> list[int]:
        """Return the sequence numbers in a journal of a device that does not run."""
        from edgeflow_agent.store.journal_reader import JournalReader

        reader = JournalReader(self.store / "journals" / pipeline)
        try:
            return [first + i for first, count, _ in reader.read(0, 1 << 30) for i in range(count)]
        finally:
            reader.close()

    def metric(self, name: str, **labels: str) -> int:
        """Return the sum of the samples of `name` that carry `labels`."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        lines = [line for line in self.text("/metrics").splitlines() if line.startswith(name)]
        return sum(
            int(float(line.rsplit(" ", 1)[1])) for line in lines if all(pair in line for pair in wanted)
        )
