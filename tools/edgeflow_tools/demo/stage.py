"""The whole of EdgeFlow on this machine: put up, watched, taken down."""

from __future__ import annotations

import json
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from edgeflow_tools.client import DEVICE, RELAY, Server
from edgeflow_tools.demo import broker as brokers
from edgeflow_tools.demo import observed as seen
from edgeflow_tools.demo.broker import HOST, Choice, free_port
from edgeflow_tools.demo.children import Child, Children
from edgeflow_tools.demo.observed import Observed
from edgeflow_tools.demo.outcome import PIPELINE, Device
from edgeflow_tools.terminal import Failure, note

if TYPE_CHECKING:
    from edgeflow_tools.sim.bearing import Run

NAME = "demo"  # of the device and of its fleet
INPUT = "accel"
EXAMPLES = ("bearing", "host-watch")
COMMAND = "edgeflow_tools.cli"
SENSOR = "edgeflow_tools.sim.bearing"
SETTLE_S = 15.0
TURN_S = 0.1


def examples() -> Path:
    """Return the folder of the examples: in the package, or in the clone it was installed from."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "examples", package.parent.parent / "examples"):
        if all((folder / name / "pipeline.yaml").is_file() for name in EXAMPLES):
            return folder
    raise Failure("the examples are not here: run the demo from a clone of the repository")


class Stage:
    """What runs; use as a context. `observed` fills up by itself."""

    def __init__(self, choice: Choice, run: Run) -> None:
        self._choice, self._run = choice, run
        self._exit = ExitStack()
        self.observed = Observed()
        self._counts = Device()  # the newest

    def __enter__(self) -> Stage:
        """Start everything but the sensor; raises Failure."""
        with self._exit:
            self._folder = Path(self._exit.enter_context(TemporaryDirectory(prefix="edgeflow-demo-")))
            self._children = self._exit.enter_context(Children(self._folder))
            self._put_up()
            self._exit = self._exit.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop all, the youngest first, and remove their data."""
        self._exit.close()

    def _put_up(self) -> None:
        self.broker = brokers.start(self._choice, self._children, self._folder)
        note(f"broker  {self.broker.name} at {HOST}:{self.broker.port}")
        ports = self._start_relay()
        self.relay = Server(RELAY, f"http://{HOST}:{ports['http']}")
        note(f"relay   {self.relay.url}")
        client = seen.mirror(self.broker, self.observed)
        self._exit.callback(client.loop_stop)
        self._exit.callback(client.disconnect)
        port = free_port()
        self.device = Server(DEVICE, f"http://{HOST}:{port}")
        self._start_device(port, ports["grpc"])
        note(f"device  {self.device.url}")
        stop = threading.Event()
        self._exit.callback(stop.set)
        seen.follow(seen.RELAY, ports["http"], self.observed, stop)
        seen.follow(seen.DEVICE, port, self.observed, stop)
        self._deploy()

    def _start_relay(self) -> dict[str, int]:
        child = self._children.python(
            "relay", COMMAND, "relay", "--http-port", "0", "--grpc-port", "0", "--fleet", NAME,
            "--data", str(self._folder / "relay"), "--broker", f"{HOST}:{self.broker.port_5}",
            "--json", heard=True,
        )  # fmt: skip
        ports: dict[str, int] = child.say()
        return ports

    def _start_device(self, port: int, relay_port: int) -> None:
        settings = {
            "device": NAME, "fleet": NAME, "data": str(self._folder / "device"),
            "http": {"host": HOST, "port": port}, "relay": f"{HOST}:{relay_port}",
            "brokers": {"local": {"host": HOST, "port": self.broker.port}},
            "commit": "200ms",  # more often than on a device, where flash wears: here one watches
        }  # fmt: skip
        config = self._folder / "device.yaml"
        config.write_text(json.dumps(settings))
        child = self._children.python("device", COMMAND, "agent", "--config", str(config))
        self._children.wait_for(child, self._known, "reaching the relay")

    def _known(self) -> bool | None:
        with suppress(Failure):  # neither may serve yet
            known = self.relay.get("/api/v1/devices")["devices"]
            self.device.get("/healthz")
            return any(device["name"] == NAME and device["online"] for device in known) or None
        return None

    def _deploy(self) -> None:
        """Have the device run the examples, as anyone would: by the command."""
        folder = examples()
        commands = [
            self._children.python(
                f"deploy-{name}",
                COMMAND,
                "deploy",
                str(folder / name),
                "--relay",
                self.relay.url,
                "--device",
                NAME,
            )
            for name in EXAMPLES
        ]
        for name, command in zip(EXAMPLES, commands, strict=True):
            command.wait()
            note(f"deployed examples/{name}")

    def start_sensor(self) -> Child:
        """Start the sensor."""
        run = self._run
        arguments = [
            "--port",
            str(self.broker.port),
            "--seed",
            str(run.seed),
            "--life",
            str(run.life),
            "--trace",
        ]
        if run.seconds is not None:
            arguments += ["--seconds", str(run.seconds)]
        sensor = self._children.python("sensor", SENSOR, *arguments, heard=True)
        self._heard = seen.hear(sensor, self.observed)
        return sensor

    def check(self) -> None:
        """Raise Failure when something has come to a bad end."""
        self._children.check()

    def counts(self) -> Device:
        """Ask the device for its own counts; raises Failure."""
        pipelines = self.device.get("/api/v1/pipelines")["pipelines"]
        counters = {pipeline["name"]: pipeline["counters"] for pipeline in pipelines}
        self._counts = Device(
            received=counters.get(PIPELINE, {}).get(f'rows_total{{input="{INPUT}"}}', 0),
            inferences={name: total(found, "inferences_total") for name, found in counters.items()},
            backlog=self.device.get("/api/v1/device")["relay"]["backlog"],
        )
        return self._counts

    def settle(self, patience_s: float = SETTLE_S) -> Device:
        """Wait until the sensor's last sample has come and every event is everywhere, or for too long."""
        self._heard.join(SETTLE_S)
        deadline = time.monotonic() + patience_s
        while True:
            with suppress(Failure):  # a device that died has said what it had counted
                self.counts()
            all_there = self._counts.received == self.observed.sent and self.observed.settled
            if all_there or time.monotonic() > deadline:
                return self._counts
            time.sleep(TURN_S)


def total(counters: dict[str, int], name: str) -> int:
    """Return the sum of a counter over its labels."""
    return sum(count for key, count in counters.items() if key.partition("{")[0] == name)
