"""``edgeflow demo``: all of it, on this machine."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from edgeflow_tools.terminal import UNWELL, Failure, emit, json_option, note

if TYPE_CHECKING:
    from edgeflow_tools.demo.outcome import Outcome
    from edgeflow_tools.demo.stage import Stage

SHORTEST_S = 10
LIFE_S = 60.0
SEED = 1
TURN_S = 0.5
DEATH_S = 2.0  # for what the other parts still have in hand


@click.command(epilog="Example: edgeflow demo --for 20")
@click.option(
    "--for", "seconds", metavar="SECONDS", type=click.FloatRange(min=SHORTEST_S),
    help="How long the sensor runs, 10 or more. Without it: until Ctrl-C, with a new bearing every minute.",
)  # fmt: skip
@click.option(
    "--broker", type=click.Choice(["auto", "mosquitto", "embedded"]), default="auto", show_default=True,
    help="auto: mosquitto where it is installed.",
)  # fmt: skip
@json_option
def command(seconds: float | None, broker: Any, as_json: bool) -> None:
    """Run a vibration sensor, a broker, a device with two pipelines and a relay on this machine.

    The sensor measures a bearing that is damaged after 40 % of its life; a model finds it. Another watches
    this machine. The closing summary compares what the sensor sent with what came of it; exit code 1 says
    that samples or events were lost, or the damage was not found.
    """
    from edgeflow_tools.demo.outcome import judge
    from edgeflow_tools.demo.stage import Stage
    from edgeflow_tools.sim.bearing import Run

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run = Run(SEED, seconds, seconds or LIFE_S)
    try:
        with Stage(broker, run) as stage:
            death = _watch(stage, run)
            counts = stage.settle(DEATH_S) if death else stage.settle()
            outcome = judge(stage.observed, counts, run, stage.broker.name, death)
    except KeyboardInterrupt:
        raise Failure("the demo was ended before there was anything to sum up") from None
    if as_json:
        import msgspec

        emit(msgspec.to_builtins(outcome))
    else:
        _show(outcome)
    raise SystemExit(0 if outcome.well else UNWELL)


def _watch(stage: Stage, run: Any) -> str:
    """Show how it goes until the sensor ends, or is ended; return which part came to a bad end before."""
    from rich.console import Console

    from edgeflow_tools.demo.view import View

    sensor = stage.start_sensor()
    links = {"device": f"{stage.device.url}/", "relay": f"{stage.relay.url}/"}
    try:
        with View(Console(stderr=True), links, run) as view:
            while not sensor.ended:
                stage.check()
                with suppress(
                    Failure
                ):  # whoever plays with the processes may have killed the one that answers
                    view.update(stage.observed, stage.counts())
                time.sleep(TURN_S)
    except KeyboardInterrupt:
        sensor.interrupt()
    except Failure as failure:
        note(failure.message)
        sensor.interrupt()
        return failure.message.partition("\n")[0]
    return ""


def _show(outcome: Outcome) -> None:
    from edgeflow_tools import tables
    from edgeflow_tools.demo.outcome import ENDED
    from edgeflow_tools.demo.view import spoken

    models = ", ".join(f"{count:,} by {name}" for name, count in outcome.inferences.items())
    places = ", ".join(f"{place} {count:,}" for place, count in outcome.events.items())
    first = f"; the first after {outcome.first_event:.1f} s" if outcome.first_event is not None else ""
    found = "not found" if outcome.found_at is None else f"found at {outcome.found_at:.1f} s"
    found = "ended before it could be found" if outcome.ended_early else found
    end = ENDED if outcome.ended_early else "the damage was found"
    tables.facts(
        ("samples", f"{outcome.sent:,} sent, {outcome.received:,} received, {outcome.lost:,} lost"),
        ("inferences", models),
        ("events", places + first),
        *((f"to {name}", f"{spoken(latency)} (p50 / p99)") for name, latency in outcome.latency_ms.items()),
        ("damage", f"from {outcome.fault_at:.1f} s on, {found}"),
        ("outcome", "; ".join(outcome.problems) or f"nothing was lost, all counts agree, {end}"),
    )
