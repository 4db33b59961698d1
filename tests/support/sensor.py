"""A sensor in a process of its own: numbered samples over MQTT at QoS 1, and a record of what it sent.

Run as ``python -m tests.support.sensor --port P --topic T --rate 1000 --block 100 --seconds 20 --record X``.
Prints one JSON line at the end: samples sent and acknowledged by the broker.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

REPOSITORY = Path(__file__).resolve().parents[2]


def signal(count: int, seed: int = 7) -> npt.NDArray[np.float32]:
    """Return ``(count, 2)`` float32: noise whose level rises and falls about every 400 rows, and a ramp."""
    rng = np.random.default_rng(seed)
    level = 1.0 + np.sin(2 * np.pi * np.arange(count) / 400.0)
    noise = rng.standard_normal(count) * level
    return np.stack((noise, np.arange(count) % 1000), axis=1).astype(np.float32)


def start(
    port: int, topic: str, record: Path, *, seconds: float, rate: int = 1000, block: int = 100
) -> subprocess.Popen[bytes]:
    """Start a sensor process; `report` reads what it prints."""
    options = {
        "port": port,
        "topic": topic,
        "rate": rate,
        "block": block,
        "seconds": seconds,
        "record": record,
    }
    command = [sys.executable, "-m", "tests.support.sensor"]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=REPOSITORY)


def report(process: subprocess.Popen[bytes], patience_s: float = 120.0) -> int:
    """Wait for a sensor to end; return the samples it sent, all of them acknowledged."""
    out, _ = process.communicate(timeout=patience_s)
    found = json.loads(out)
    assert found["acknowledged"] == found["sent"]
    return int(found["sent"])


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, kind in (
        ("port", int),
        ("topic", str),
        ("rate", int),
        ("block", int),
        ("seconds", float),
        ("record", Path),
    ):
        parser.add_argument(f"--{name}", type=kind, required=True)
    args = parser.parse_args()
    samples = signal(int(args.rate * args.seconds) // args.block * args.block)
    np.save(args.record, samples)
    sys.stdout.write(json.dumps({"sent": len(samples), "acknowledged": publish(args, samples)}) + "\n")


def publish(args: argparse.Namespace, samples: npt.NDArray[np.float32]) -> int:
    from paho.mqtt import client as mqtt

    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.max_queued_messages_set(0)
    client.connect("127.0.0.1", args.port)
    client.loop_start()
    begin, infos = time.monotonic(), []
    for index, start_row in enumerate(range(0, len(samples), args.block)):
        time.sleep(max(0.0, begin + index * args.block / args.rate - time.monotonic()))
        rows = samples[start_row : start_row + args.block].tolist()
        infos.append(client.publish(args.topic, json.dumps({"data": rows, "n": start_row}), qos=1))
    for info in infos:
        info.wait_for_publish(30)
    client.disconnect()
    client.loop_stop()
    return sum(args.block for info in infos if info.is_published())


if __name__ == "__main__":
    main()
