"""What the relay counts, in the text form Prometheus scrapes (exposition format 0.0.4)."""

from __future__ import annotations

from collections import Counter

HELP = {
    "events_stored_total": "Events stored for the first time.",
    "events_duplicate_total": "Events that were stored before.",
    "blocks_rejected_total": "Blocks of events that could not be read; they are kept for a look.",
    "messages_refused_total": "Device messages that could not be used.",
    "streams_total": "Device streams opened.",
    "streams": "Device streams open now.",
    "mirror_connected": "Whether the mirror's broker is connected.",
    "mirror_published_total": "Events the mirror's broker has acknowledged.",
    "mirror_backlog": "Events not yet mirrored.",
}


class Counters(Counter[str]):
    """All of them."""

    def text(self) -> str:
        """Return the exposition text."""
        lines: list[str] = []
        for name, help_text in HELP.items():
            kind = "counter" if name.endswith("_total") else "gauge"
            full = f"edgeflow_relay_{name}"
            lines += [f"# HELP {full} {help_text}", f"# TYPE {full} {kind}", f"{full} {self[name]}"]
        return "\n".join(lines) + "\n"
