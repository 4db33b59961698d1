"""Descriptors: each connection takes one, and a relay that has none left hears nobody any more."""

from __future__ import annotations

import contextlib
import resource
from typing import NamedTuple

_HTTP = 512
_OVER_HTTP = 32  # connections beyond those that are served
_OVER_DEVICES = 32  # connections of devices that are told that there are too many
_OWN = 96  # the store, gRPC, the mirror, files being read
_ENDLESS = 1 << 20


class Shares(NamedTuple):
    """How many connections there may be at once."""

    http: int  # that are served
    http_most: int
    streams: int  # devices that are served
    devices_most: int


def allow_descriptors() -> None:
    """Allow as many descriptors as there may be: the usual limit is 1024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def shares() -> Shares:
    """Share out what this process is allowed, so that nobody takes what others need."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _ENDLESS if limit == resource.RLIM_INFINITY else limit
    http = min(_HTTP, limit // 4)
    streams = max(1, limit - http - _OVER_HTTP - _OVER_DEVICES - _OWN)
    return Shares(http, http + _OVER_HTTP, streams, streams + _OVER_DEVICES)
