"""What the relay counts of itself, in the text form Prometheus reads.

Source: prometheus.io, "Exposition formats", text format 0.0.4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "edgeflow_relay_"
_HELP = {
    "blobs_served_total": "Blobs that devices began to fetch.",
    "blocks_rejected_total": "Blocks of events that could not be read; they are kept as they came.",
    "blocks_total": "Blocks of events taken in.",
    "commits_failed_total": "Commits of events that the store refused; they are tried again.",
    "commits_total": "Commits of events.",
    "devices": "Devices known.",
    "devices_online": "Devices connected.",
    "events_duplicate_total": "Events that came again and were already stored.",
    "events_missing_total": "Sequence numbers that devices passed over: gone there before they were sent.",
    "events_stored_total": "Events stored.",
    "heartbeats_total": "Heartbeats heard.",
    "http_refused_total": "Requests refused because of where they came from.",
    "http_requests_total": "Requests answered.",
    "intake_bytes": "Bytes of events waiting to be stored.",
    "malformed_total": "Streams and calls refused because of what they sent.",
    "mirror_backlog": "Events stored and not acknowledged by the mirror's broker: so many at most.",
    "mirror_connected": "1 while connected to the mirror's broker.",
    "mirror_published_total": "Events the mirror's broker acknowledged.",
    "mirror_skipped_total": "Events not mirrored because the broker takes none so large.",
    "store_failures_total": "Reads and writes for devices that the store refused.",
    "streams_refused_total": "Streams refused because there were too many.",
    "streams_replaced_total": "Streams ended because the device opened another.",
    "streams_rivals_total": "Streams refused because another agent has the device's name.",
    "streams_silent_total": "Times a device was shown as offline for want of a word on its stream.",
    "streams_total": "Streams that devices opened.",
    "uploads_refused_total": "Uploads that were not taken.",
    "uploads_total": "Bundles taken.",
}


class Counters(Counter[str]):
    """Totals since the start, by the names above; counted by the loop's thread alone."""

    def text(self, gauges: Mapping[str, int]) -> str:
        """Return them, and what is so at this moment, as text."""
        lines: list[str] = []
        for name, words in _HELP.items():
            full = PREFIX + name
            kind = "counter" if name.endswith("_total") else "gauge"
            value = gauges.get(name, self[name])
            lines += [f"# HELP {full} {words}", f"# TYPE {full} {kind}", f"{full} {value}"]
        return "".join(f"{line}\n" for line in lines)
