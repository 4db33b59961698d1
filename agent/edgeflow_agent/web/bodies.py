"""Request bodies, never longer than asked for."""

from __future__ import annotations

from starlette.requests import Request


class TooLarge(ValueError):
    """The body is longer than what is taken."""


async def read(request: Request, limit: int) -> bytes:
    """Return the body; raises TooLarge above `limit` bytes, before having taken more than that."""
    _check_announced(request, limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise TooLarge(f"more than {limit} bytes")
    return bytes(body)


def _check_announced(request: Request, limit: int) -> None:
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        raise TooLarge(f"{length} bytes, {limit} are taken")


def media_type(request: Request) -> str:
    """Return the content type without parameters, in lower case (RFC 9110, section 8.3)."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
