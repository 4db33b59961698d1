"""Topic filters: what they match, what they capture, and how overlapping ones become one.

Source: MQTT 3.1.1, section 4.7.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import zip_longest

_CAPTURE = re.compile(r"\{([A-Za-z_]\w*)\}")


class Pattern:
    """A topic filter with captures: ``plant/{machine}/accel``."""

    def __init__(self, topic: str) -> None:
        levels = topic.split("/")
        parts = [_level(level) for level in levels]
        # What begins with $ is the broker's own and not meant by a wildcard in the first place.
        guard = r"(?!\$)" if _CAPTURE.sub("+", levels[0]) in ("+", "#") else ""
        body = "/".join(parts).removesuffix("/#")
        tail = "(?:/.*)?" if parts[-1] == "#" and len(parts) > 1 else ""
        self._regex = re.compile(guard + (".*" if parts == ["#"] else body + tail), re.DOTALL)

    def match(self, topic: str) -> dict[str, str] | None:
        """Return what a topic's levels are captured as, ``None`` when it does not match."""
        found = self._regex.fullmatch(topic)
        return None if found is None else found.groupdict()


def _level(level: str) -> str:
    capture = _CAPTURE.fullmatch(level)
    if capture:
        return f"(?P<{capture[1]}>[^/]*)"
    return {"+": "[^/]*", "#": "#"}.get(level) or re.escape(level)


def overlap(one: str, other: str) -> bool:
    """Say whether there is a topic that both filters match."""
    pairs = [*zip_longest(one.split("/"), other.split("/"))]
    if _wild(pairs[0][0]) != _wild(pairs[0][1]) and any((level or "").startswith("$") for level in pairs[0]):
        return False
    for a, b in pairs:
        if "#" in (a, b):
            return True
        if None in (a, b) or (a != b and "+" not in (a, b)):
            return False
    return True


def joined(one: str, other: str) -> str:
    """Return the narrowest filter that matches all that either of two overlapping filters matches."""
    out: list[str] = []
    for a, b in zip_longest(one.split("/"), other.split("/")):
        if "#" in (a, b):
            return "/".join([*out, "#"])
        out.append(str(a) if a == b else "+")
    return "/".join(out)


def disjoint(filters: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Return filters, with QoS, of which no two overlap and which match all that the given ones match.

    A broker may send a message once per matching filter, and 3.1.1 does not tell which one a copy is for.
    """
    out: dict[str, int] = {}
    todo = [*filters]
    while todo:
        name, qos = todo.pop()
        found = next((known for known in out if overlap(known, name)), None)
        if found is None:
            out[name] = qos
        else:
            todo.append((joined(found, name), max(qos, out.pop(found))))
    return out


def _wild(level: str | None) -> bool:
    return level in ("+", "#")
