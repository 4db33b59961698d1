"""A real mosquitto on a free loopback port."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

from tests.support.processes import end, eventually, free_port


class Mosquitto:
    """A broker whose persistent sessions survive `restart` (SIGTERM) but not `kill`."""

    def __init__(self, program: Path, folder: Path, extra: str = "") -> None:
        self.program = program
        self.folder = folder
        self.port = free_port()
        self.config = folder / "mosquitto.conf"
        folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence true\n"
            f"persistence_location {folder}/\nmax_queued_messages 100000\nmax_inflight_messages 1000\n"
            f"user root\n{extra}"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Mosquitto:
        with (self.folder / "mosquitto.log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(self.program), "-c", str(self.config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        eventually(self._answers, "mosquitto accepts connections")
        return self

    def _answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), 1):
            return True

    def stop(self) -> None:
        if self.process is not None:
            end(self.process)
            self.process = None

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
