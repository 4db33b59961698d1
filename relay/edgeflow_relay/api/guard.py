"""Who may call: only programs and pages of this machine.

A page from elsewhere can make a browser call a loopback address, or give its own name that address (DNS
rebinding). It cannot choose the Host header then, and cannot leave out Origin on a changing call.
Source: Fetch standard, section 3.2 (Origin header); RFC 9110, section 7.2 (Host).
"""

from __future__ import annotations

import contextlib
import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgeflow_relay.api.common import failure
from edgeflow_relay.counters import Counters

_HOST = re.compile(r"(localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?", re.IGNORECASE)
_SAFE = ("GET", "HEAD")
_HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def refusal(method: str, host: str, origin: str | None, site: str | None) -> str:
    """Return why a request with these headers is refused, or nothing. `site` is Sec-Fetch-Site.

    A link from elsewhere to the page may be followed: only changing calls mind the site.
    """
    if not _HOST.fullmatch(host):
        return f"the relay answers to localhost and loopback addresses, not to {host[:200]!r}"
    if origin is not None and origin.lower() != f"http://{host.lower()}":
        return f"requests from {origin[:200]!r} are not taken"
    if method not in _SAFE and site not in (None, "same-origin", "none"):
        return "requests from other sites are not taken"
    return ""


class Guard:
    """ASGI middleware: refuses foreign callers, counts requests, sets the headers every answer has."""

    def __init__(self, app: ASGIApp, counters: Counters) -> None:
        self._app = app
        self._counters = counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        get = Headers(scope=scope).get
        why = refusal(scope["method"], get("host", ""), get("origin"), get("sec-fetch-site"))
        self._counters["http_refused_total" if why else "http_requests_total"] += 1
        app = failure(403, why) if why else self._app
        with contextlib.suppress(ClientDisconnect):  # there is nobody to answer then
            await app(scope, receive, with_headers)
