"""What the status page says, as text: figures with units, rates from one look to the next."""

from __future__ import annotations

from typing import Any

from edgeflow_agent.core.counters import Sample, total
from edgeflow_agent.core.messages import PipelineStatus
from edgeflow_agent.web import views
from edgeflow_agent.web.local import Local

ROWS = "rows_total"
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def amount(value: int) -> str:
    """Return a count with thin spaces between thousands."""
    return f"{value:,}".replace(",", "\u202f")


def size(value: float) -> str:
    """Return bytes in a unit that suits."""
    for unit in _UNITS:
        if value < 1024 or unit == _UNITS[-1]:
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def duration(seconds: float) -> str:
    """Return a time span in its two largest units."""
    days, rest = divmod(int(seconds), 86400)
    hours, rest = divmod(rest, 3600)
    minutes, secs = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (secs, "s")]
    largest = next((i for i, (value, _) in enumerate(parts) if value), 3)
    return " ".join(f"{value} {unit}" for value, unit in parts[largest : largest + 2])


def latency(us: float | None) -> str:
    """Return a latency's upper limit."""
    if us is None:
        return "–"
    return f"≤ {us:g} µs" if us < 1000 else f"≤ {us / 1000:.3g} ms"


def rejected(found: list[Sample]) -> dict[str, dict[str, int]]:
    """Return the rejected messages by input and reason."""
    out: dict[str, dict[str, int]] = {}
    for sample in found:
        if sample.name == "input_rejected_total" and sample.value:
            reasons = out.setdefault(sample.labels.get("input", ""), {})
            reason = sample.labels.get("reason", "")
            reasons[reason] = reasons.get(reason, 0) + sample.value
    return out


def rate(per_second: float | None) -> str:
    """Return a rate, a dash where there is none."""
    if per_second is None:
        return "–"
    return amount(round(per_second)) if per_second >= 100 else f"{per_second:.1f}"


def look(local: Local) -> None:
    """Look at what is shown as a rate."""
    for known in local.pipelines.values():
        if known.slot >= 0:
            own = local.board.slot(known.slot).read().items()
            local.rates.look(known.name, sum(value for name, value in own if name.startswith(ROWS)))


def device(local: Local) -> list[tuple[str, str]]:
    """Return the device's figures, label and text."""
    about = views.device(local)
    host: dict[str, Any] = about["host"]
    storage: dict[str, int] = about["storage"]
    used = host["memory_total"] - host["memory_available"]
    figures = [
        ("uptime", duration(about["uptime_s"])),
        ("clock", f"{about['time'][:19].replace('T', ' ')} UTC, {about['clock_quality']}"),
        ("CPU", f"{host['cpu_percent']:.0f} %, load {host['load_1m']:.2f}"),
        ("memory", f"{size(used)} of {size(host['memory_total'])}"),
        ("disk free", f"{size(host['disk_free'])} of {size(host['disk_total'])}"),
        ("stored", f"{size(storage['bytes'])} of {size(storage['budget'])}"),
    ]
    if host["temperature"] is not None:
        figures.append(("temperature", f"{host['temperature']:.1f} °C"))
    return figures


def brokers(local: Local) -> list[tuple[str, str]]:
    """Return the state of each broker in use, ``good`` or ``bad``, and what to say of it."""
    found = []
    for broker in map(views.broker, local.brokers):
        state = "connected" if broker["connected"] else f"not connected ({broker['reason']})"
        words = f"{broker['name']} at {broker['address']}: {state} for {duration(broker['since_s'])}"
        found.append(("good" if broker["connected"] else "bad", words))
    return found


def relay(local: Local) -> tuple[str, str]:
    """Return the state of the uplink, ``good``, ``bad`` or ``off``, and what to say of it."""
    about = local.relay
    if not about.address:
        return "off", "no relay is set; events stay on this device"
    waiting = "1 event waits" if about.backlog == 1 else f"{amount(about.backlog)} events wait"
    if about.conflicts:
        names = ", ".join(about.conflicts)
        words = f"had more events of {names} than this device, whose store was put back; these are not sent"
        return (
            "bad",
            f"{about.address}: it {words} until the agent is started without their folders of journals",
        )
    if about.connected:
        return "good", f"{about.address}: connected, {waiting}"
    return "bad", f"{about.address}: not connected ({about.error}), {waiting}"


def pipeline(local: Local, status: PipelineStatus) -> list[tuple[str, str]]:
    """Return a pipeline's figures, label and text."""
    found = views.of_pipeline(local, status)
    decision = [latency(views.quantile(found, "decision_us", share)) for share in (0.5, 0.99)]
    figures = [
        ("rows/s", rate(local.rates.per_second(status.name))),
        ("rows", amount(total(found, ROWS))),
        ("inferences", amount(total(found, "inferences_total"))),
        ("events", amount(total(found, "events_total"))),
        ("rows lost", amount(total(found, "rows_lost_total"))),
        ("step errors", amount(total(found, "step_errors_total"))),
        ("restarts", amount(status.restarts)),
        ("decision p50", decision[0]),
        ("decision p99", decision[1]),
    ]
    if recorded := total(found, "recording_bytes"):
        figures.append(("recorded", size(recorded)))
    if lost := total(found, "events_evicted_unacked_total"):
        figures.append(("events evicted", amount(lost)))
    for name, reasons in rejected(found).items():
        words = ", ".join(f"{reason} {amount(count)}" for reason, count in sorted(reasons.items()))
        figures.append((f"rejected by {name}", words))
    return figures
